"""Studies side by side: settings, findings, curves, and what is said of what is missing."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from figures.synthetic import make_config, make_experiment, write_experiment

from smoothdescent.cli import main
from smoothdescent.compare.content import differences, findings
from smoothdescent.compare.curves import draw
from smoothdescent.compare.study import read_studies, study_names
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table, write_table
from smoothdescent.tables.experiment import (
    ExperimentTables,
    final_errors,
    final_volumes,
    read_tables,
)
from smoothdescent.verdict.statement import ALL

NAME, OTHER = "convnet-cifar10-noise20", "convnet-cifar100"
WIDTHS = [1, 2, 4, 8, 16]
TINY = {"widths": WIDTHS, "epochs": [0, 1, 10, 30], "volumes": 3, "threshold": 4.0}


def decide(study: Path) -> None:
    tables = [str(folder) for folder in study.iterdir() if folder.is_dir()]
    outputs = [f"--output-{kind}={study}/verdict.{kind}" for kind in ("parquet", "md", "html")]
    main(["verdict", "--tables", *tables, *outputs])


def compare(output: Path, *studies: Path) -> None:
    main(["compare", *map(str, studies), "--output", str(output)])


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two studies with a verdict: they share one experiment, whose learning rates differ."""
    folder = tmp_path_factory.mktemp("studies")
    demo, small = folder / "demo", folder / "small"
    rate = {"optimizer": {"name": "sgd", "learning_rate": 0.01}}
    write_experiment(demo, NAME, rate, **TINY)
    write_experiment(demo, "mine", **TINY)
    write_experiment(small, NAME, {**rate, "epochs": 30}, **{**TINY, "threshold": 8.0})
    write_experiment(small, OTHER, **TINY)
    for study in (demo, small):
        decide(study)
    return demo, small


@pytest.fixture(scope="module")
def written(studies: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compared") / "both"
    compare(output, *studies)
    return output


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables in Markdown."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_the_files(written):
    names = {"comparison.md", "comparison.html"}
    names |= {f"{NAME}.{suffix}" for suffix in ("pdf", "png", "parquet")}
    assert {path.name for path in written.iterdir()} == names


def test_settings_that_differ(written):
    text = (written / "comparison.md").read_text()
    settings = text.split("## Configuration")[1]
    assert rows(settings) == [["key", "demo", "small"], ["---"] * 3, ["epochs", "–", "30"]]
    assert "- mine: only in demo\n- convnet-cifar100: only in small\n" in settings


def test_values_of_settings():
    def having(**settings: object) -> ExperimentTables:
        config = make_config(NAME, **settings)
        return ExperimentTables(NAME, pd.DataFrame(), pd.DataFrame(), config)

    before = having(augmentation=None, widths=[1, 2], schedule="constant", same=1)
    after = having(augmentation={"shift": 4}, widths=[1, 2, 3], schedule="cosine", same=1)
    assert differences({"before": before, "after": after, "again": after}) == [
        ["augmentation", "null", "–", "–"],
        ["augmentation.shift", "–", "4", "4"],
        ["schedule", "constant", "cosine", "cosine"],
        ["widths", "[1, 2]", "[1, 2, 3]", "[1, 2, 3]"],
    ]
    assert differences({"before": before, "again": before}) == []


def test_findings_side_by_side(tmp_path):
    """Those of all of the paper's experiments beside those of one."""
    for name in ALL:
        write_experiment(tmp_path / "all", name, **TINY)
    write_experiment(tmp_path / "one", NAME, **TINY)
    for study in ("all", "one"):
        decide(tmp_path / study)
    read = read_studies([tmp_path / "all", tmp_path / "one"])
    head, found = findings(read)
    assert head == ["", "Finding", "all", "one"]
    assert [row[0] for row in found] == [*map(str, range(1, 16)), "", "", ""]
    assert found[10][3] == "? undecided", "11 needs an experiment that one lacks"
    verdict = read["one"].verdict
    decided = verdict.loc[verdict["number"] == 13, "result"]
    assert len(decided) == 4 and (decided == "undecided").sum() == 3
    assert found[12][3].endswith("(1 of 4)")
    for counts in zip(*([int(cell) for cell in row[2:]] for row in found[-3:]), strict=True):
        assert sum(counts) == 15


def test_curves_are_those_of_the_tables(studies, written):
    table = read_table(written / f"{NAME}.parquet").to_pandas()
    panels = ["Test error", "Training accuracy volume 0"]
    panels += [f"Cross-entropy volume {volume}" for volume in (0, 2)]
    panels += [f"Jacobian norm {s}, volume {v}" for v in (0, 2) for s in ("clean", "noisy")]
    assert list(table["panel"].unique()) == panels
    for study in studies:
        tables, mine = read_tables(study / NAME), table[table["series"] == study.name]
        errors = final_errors(tables, "test_error")
        noisy = final_volumes(tables, "jacobian_norm", "noisy").query("volume == 2")
        for panel, expected in ((panels[0], errors), (panels[-1], noisy)):
            shown = mine[mine["panel"] == panel]
            assert list(shown["x"]) == WIDTHS
            np.testing.assert_array_equal(shown["y"], expected["mean"])
            np.testing.assert_array_equal(shown["y_std"], expected["std"])
    metadata = read_metadata(written / f"{NAME}.parquet")
    assert json.loads(metadata["thresholds"]) == {"demo": 4, "small": 8}


def test_axes_and_colours():
    studies = {
        "narrow": make_experiment(NAME, **TINY),
        "deep": make_experiment(NAME, **{**TINY, "volumes": 5, "widths": [1, 2, 4]}),
    }
    figure = draw(studies).figure
    axes = {ax.get_title().replace("\n", " "): ax for ax in figure.axes}
    assert "Cross-entropy largest volume" in axes, "volume 2 of one, volume 4 of the other"
    for title, ax in axes.items():
        assert ax.get_yscale() == ("log" if title.startswith("Jacobian") else "linear")
        curves = [line for line in ax.lines if line.get_marker() == "o"]
        assert [len(line.get_xdata()) for line in curves] == [len(WIDTHS), 3]
        assert len({line.get_color() for line in curves}) == 2
        assert len(ax.collections) >= 2, "a band each"
    [legend] = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["narrow (threshold $w$ = 4)", "deep (threshold $w$ = 4)"]


def test_an_experiment_without_noise_or_volumes():
    studies = {name: make_experiment(OTHER, **{**TINY, "volumes": 1}) for name in ("a", "b")}
    table = draw(studies).table
    assert list(table["panel"].unique()) == [
        "Test error", "Training accuracy volume 0", "Cross-entropy volume 0",
        "Jacobian norm volume 0",
    ]  # fmt: skip


def test_a_measure_that_no_study_has():
    studies = {name: make_experiment(NAME, **TINY) for name in ("a", "b")}
    for experiment in studies.values():
        del experiment.sharpness["crossentropy"]
    figure = draw(studies).figure
    [_, _, points, *_] = figure.axes
    assert [text.get_text() for text in points.texts] == ["no data"]


class Page(HTMLParser):
    """Collect the tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_self_contained_and_says_the_same(written):
    page = Page()
    page.feed((written / "comparison.html").read_text())
    links = [value for _, found in page.tags for key, value in found.items()
             if key in ("src", "href")]  # fmt: skip
    assert len(links) == 1 and links[0].startswith("data:image/png;base64,")
    text = (written / "comparison.md").read_text()
    for row in rows(text):
        for cell in row:
            assert cell in ("", "---") or cell in page.texts
    results = [tag for tag, found in page.tags if tag == "b" and found["class"] == "holds"]
    assert len(results) == text.count("✔") > 2
    assert f"![{NAME}]({NAME}.png)" in text
    assert "- demo: interpolation threshold w = 4; 3 seeds" in text


def test_the_same_twice(studies, written, tmp_path):
    compare(tmp_path, *studies)
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_names_of_studies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, after = Path("before/results/demo"), Path("after/results/demo")
    assert list(study_names([before, Path("small")])) == ["demo", "small"]
    assert study_names([before, after]) == {
        "before/results/demo": before, "after/results/demo": after
    }  # fmt: skip
    with pytest.raises(UserError, match="before/results is given twice"):
        study_names([Path("before/results"), before / ".."])


def test_an_unfinished_study(studies, tmp_path, capsys):
    demo, small = studies
    begun = shutil.copytree(small, tmp_path / "begun")
    (begun / "verdict.parquet").unlink()
    (begun / OTHER / "sharpness.parquet").unlink()
    (begun / "logs").mkdir()
    (begun / "next").mkdir()
    (begun / "next/labels.parquet").touch()
    compare(tmp_path / "out", demo, begun)
    printed = capsys.readouterr().out.splitlines()
    end = "--config scale=begun` makes it"
    assert printed[:-1] == [
        f"{begun}/{OTHER}/sharpness.parquet does not exist; `snakemake {OTHER} {end}",
        f"{begun}/next/history.parquet does not exist; `snakemake next {end}",
        f"{begun}/verdict.parquet does not exist; `snakemake verdict {end}",
    ]
    text = (tmp_path / "out/comparison.md").read_text()
    for sentence in printed[:-1]:
        assert f"- {sentence}.\n" in text
    assert "|  | Finding | demo |\n" in text, "begun has no verdict"
    assert (
        f"snakemake {OTHER} --config scale=begun</code> makes it."
        in (tmp_path / "out/comparison.html").read_text()
    )


def test_studies_that_share_nothing(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, name in zip(folders, (NAME, OTHER), strict=True):
        write_experiment(folder, name, **TINY)
    compare(tmp_path / "out", *folders)
    text = (tmp_path / "out/comparison.md").read_text()
    assert f"- {NAME}: only in a\n- {OTHER}: only in b\n" in text
    assert "No study has a verdict." in text and "No experiment is in two studies." in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.md", "comparison.html"
    }  # fmt: skip


def test_faults(studies, tmp_path, capsys):
    def error(*folders: Path) -> str:
        with pytest.raises(SystemExit) as done:
            compare(tmp_path / "out", *folders)
        assert done.value.code == 2
        return capsys.readouterr().err

    demo, small = studies
    assert "found 1 folders of studies, expected 2 to 7" in error(demo)
    assert "found 8 folders of studies" in error(*[demo] * 8)
    assert "is given twice, expected different studies" in error(demo, demo)
    assert "nowhere is not a folder; expected a study's results" in error(
        demo, tmp_path / "nowhere"
    )
    assert "has no folder with history.parquet and sharpness.parquet" in error(demo, tmp_path)
    begun = tmp_path / "begun"
    (begun / NAME).mkdir(parents=True)
    (begun / NAME / "labels.parquet").touch()
    assert f"`snakemake {NAME} --config scale=begun` makes it" in error(demo, begun)
    copy = shutil.copytree(small, tmp_path / "copy")
    said = {"table": "verdict"}
    write_table(copy / "verdict.parquet", pd.DataFrame({"number": [1]}), said)
    assert "has no column 'result'" in error(demo, copy)
    table = pd.DataFrame({"number": [1], "result": ["yes"]})
    write_table(copy / "verdict.parquet", table, said)
    assert "has the result 'yes', expected holds" in error(demo, copy)
    (copy / "verdict.parquet").unlink()
    shutil.copytree(copy / NAME, copy / "again")
    assert f"the experiment {NAME} is given twice" in error(demo, copy)
    assert not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_as_its_readers_see_it(written, browser, width):
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    page = context.new_page()
    page.goto((written / "comparison.html").as_uri())
    assert page.evaluate("[...document.images].map(i => i.naturalWidth > 1000)") == [True]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.inner_text("h1") == "Studies side by side: demo, small"
    context.close()


@pytest.mark.slow
def test_settings_are_those_of_the_configuration_beside_the_tables(finished_study, tmp_path):
    study = finished_study.results.parent
    copy = shutil.copytree(study, tmp_path / "copy")
    compare(tmp_path / "out", study, copy)
    text = (tmp_path / "out/comparison.md").read_text()
    assert "All settings are the same." in text and "does not exist" not in text
    [experiment] = read_studies([study])["demo"].experiments.values()
    content = yaml.safe_load((study / experiment.name / "config.yaml").read_text())
    [dataset] = content["datasets"].values()
    assert {**content["experiments"][experiment.name], "dataset": dataset} == experiment.config
