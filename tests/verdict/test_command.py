"""The command: three files, the marks on figures, and what it says of faulty input."""

import argparse
import re
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from figures.synthetic import write_experiment

from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES
from smoothdescent.files import read_metadata, read_table, write_table
from smoothdescent.tables.experiment import read_all_tables
from smoothdescent.verdict import command, findings
from smoothdescent.verdict.findings import mark, tally
from smoothdescent.verdict.statement import ALL, ASYMMETRIC, CONVNET
from smoothdescent.verdict.statements import STATEMENTS, statements_of


def verdict(output: Path, *folders: Path) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = [f"--output-{kind}={output}/verdict.{kind}" for kind in ("parquet", "md", "html")]
    command.run(parser.parse_args(["--tables", *map(str, folders), *options]))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdict")
    verdict(folder, *(write_experiment(folder, name) for name in ALL))
    return folder


def test_parquet(written):
    table = read_table(written / "verdict.parquet").to_pandas()
    assert list(table["number"]) == [*range(1, 12), 12, 12, *[13] * 4, 14, *[15] * 4]
    assert set(table["experiment"]) == set(ALL)
    norms = table.iloc[1]
    assert norms["result"] == "holds"
    assert 1 < norms["low"] < norms["value"] < norms["high"]
    metadata = read_metadata(written / "verdict.parquet")
    assert '"convnet-cifar100"' in metadata["sources"]
    assert "library_versions" in metadata


def test_markdown(written):
    lines = (written / "verdict.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 22
    assert {row.count(" | ") for row in rows} == {4}
    assert lines[2].startswith("**At this scale ")
    assert "- convnet-cifar10-noise20: interpolation threshold w = 7; 3 seeds" in lines
    assert any(line.startswith("15. ") for line in lines)


class Page(HTMLParser):
    """Collect the tags of a page, and check that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_whole_and_self_contained(written):
    page = Page()
    text = (written / "verdict.html").read_text()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert page.tags.count("tr") == 23
    findings = read_table(written / "verdict.parquet").to_pandas()
    for result, count in findings["result"].value_counts().items():
        assert text.count(f'<b class="{result}">') == count
    for finding in findings.to_dict("records"):
        assert f"{escape(finding['statement'])}<br><small>{finding['experiment']}</small>" in text


def test_marks(written):
    """A figure's mark says of its statements what the verdict says."""
    experiments = read_all_tables([written / name for name in ALL])
    table = read_table(written / "verdict.parquet").to_pandas()
    for figure, shown in FIGURES.items():
        found = mark(figure, {name: experiments[name] for name in shown})
        words = found.removeprefix("Verdict: statement").removeprefix("s").split("; ")
        told = {}
        for group in words:
            numbers, result = group.rsplit(" ", 1)
            told |= dict.fromkeys(map(int, numbers.split(",")), result)
        expected = {
            row["number"]: row["result"]
            for row in table.to_dict("records")
            if figure in row["figures"] and row["experiment"] in shown
        }
        assert told.keys() == expected.keys()
        for number, result in expected.items():
            assert told[number].rstrip("s") == result.rstrip("s")
    assert mark("figure99", experiments) == ""


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({8: "fails"}, "statement 8 fails"),
        ({9: "undecided"}, "statement 9 undecided"),
        ({2: "undecided", 3: "holds", 5: "undecided", 6: "holds"},
         "statements 3, 6 hold; 2, 5 undecided"),
        ({2: "fails", 3: "holds", 5: "fails", 6: "undecided"},
         "statement 3 holds; 2, 5 fail; 6 undecided"),
    ],
)  # fmt: skip
def test_the_words_of_a_mark(results, text, monkeypatch):
    monkeypatch.setattr(findings, "statements_of", lambda *_: [(n, CONVNET) for n in results])
    decided = {n: argparse.Namespace(result=result) for n, result in results.items()}
    monkeypatch.setattr(findings, "decide_one", lambda number, *_: decided[number])
    assert mark("figure2", {CONVNET: None}) == f"Verdict: {text}"


def test_every_statement_is_on_a_figure_of_its_experiments():
    shown = {pair for figure, names in FIGURES.items() for pair in statements_of(figure, names)}
    wanted = {(n, name) for n, statement in STATEMENTS.items() for name in statement.figures}
    assert shown == wanted
    assert [n for n, _ in statements_of("mine", ["mine"])] == [*range(1, 9), 13, 15]


def test_some_experiments_missing(tmp_path, capsys):
    verdict(tmp_path, write_experiment(tmp_path, CONVNET))
    printed = capsys.readouterr().out
    table = read_table(tmp_path / "verdict.parquet").to_pandas()
    numbers = {n: int(count) for n, count in table["result"].value_counts().items()}
    assert numbers["undecided"] > 8 and numbers["holds"] > 1
    words = re.fullmatch(
        r"At this scale (\d+) of 15 findings hold, (\d+) do not, (\d+) cannot be told\n", printed
    )
    assert sum(map(int, words.groups())) == 15
    assert f"**{printed.strip()}.**" in (tmp_path / "verdict.md").read_text()
    table = read_table(tmp_path / "verdict.parquet").to_pandas().set_index("number")
    assert table.loc[11, "reason"] == f"The tables of {ASYMMETRIC} are not given."
    assert "–" in (tmp_path / "verdict.md").read_text()


def test_a_diverged_run_is_told(tmp_path):
    folder = write_experiment(tmp_path, CONVNET)
    table = read_table(folder / "sharpness.parquet").to_pandas()
    lost = (table["width"] == 12) & (table["seed"] == 1)
    table.loc[lost, "jacobian_norm"] = np.nan
    metadata = read_metadata(folder / "sharpness.parquet")
    write_table(folder / "sharpness.parquet", table, metadata)
    verdict(tmp_path, folder)
    text = (tmp_path / "verdict.md").read_text()
    assert "3 seeds; 1 run with values that are not finite left out" in text
    findings = read_table(tmp_path / "verdict.parquet").to_pandas().set_index("number")
    assert findings.loc[2, "result"] == "holds"


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (["holds", "undecided"], "holds"),
        (["holds", "fails", "undecided"], "fails"),
        (["undecided", "undecided"], "undecided"),
    ],
)
def test_a_finding_of_several_experiments_counts_once(results, expected):
    assert tally((13, result) for result in results) == {13: expected}


def test_pictures(written):
    text = (written / "verdict.html").read_text()
    table = read_table(written / "verdict.parquet").to_pandas()
    drawn = table[table["curve_x"].map(len) > 0]
    assert len(drawn) > 10
    assert text.count("<svg ") == len(drawn)
    # The second finding is on the experiment whose threshold is w = 7, of 1 to 64.
    svg = text.split("<svg ")[2].split("</svg>")[0]
    assert f'x1="{3 + 114 * np.log(7) / np.log(64):.1f}"' in svg
    points = [tuple(map(float, pair.split(","))) for pair in svg.split('"')[-2].split()]
    assert points[0][0] == 3 and points[-1][0] == 117
    assert {min(y for _, y in points), max(y for _, y in points)} == {3, 25}


def test_the_same_twice(tmp_path):
    tables = {"widths": [1, 2, 3, 4, 6, 8, 12], "epochs": [0, 1, 10, 30], "volumes": 2}
    folder = write_experiment(tmp_path, CONVNET, **tables, threshold=4.0)
    for copy in ("a", "b"):
        verdict(tmp_path / copy, folder)
    for name in ("verdict.parquet", "verdict.md", "verdict.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_faults(tmp_path):
    folder = write_experiment(tmp_path, CONVNET)
    with pytest.raises(UserError, match="experiment convnet-cifar10-noise20 is given twice"):
        verdict(tmp_path, folder, folder)
    with pytest.raises(UserError, match=r"history\.parquet"):
        verdict(tmp_path, tmp_path / "nowhere")
    assert not list(tmp_path.glob("verdict*"))


def test_starts_without_torch_and_plotting():
    code = (
        "import sys, smoothdescent.verdict.command;"
        "assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
