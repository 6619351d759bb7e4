from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from figures.synthetic import write_experiment
from matplotlib.figure import Figure

from smoothdescent.cli import main
from smoothdescent.figures import FIGURES, style
from smoothdescent.figures.captions import caption
from smoothdescent.files import read_metadata, read_table
from smoothdescent.tables.experiment import read_tables

TABLES = {"widths": [2, 4, 8], "epochs": [0, 1, 10, 30], "volumes": 3, "threshold": 4.0}


def draw(figure: str, output: Path, *folders: Path) -> None:
    main(["figure", figure, "--tables", *map(str, folders), "--output", str(output)])


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that the command has saved."""
    figures = []
    save = style.save

    def keep(figure: Figure, *rest: object) -> None:
        figures.append(figure)
        save(figure, *rest)

    monkeypatch.setattr(style, "save", keep)
    return figures


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        draw(*arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_writes_figure_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_experiment(tmp_path, **TABLES)
    draw("figure3", tmp_path / "figures" / "figure3", folder)
    output = tmp_path / "figures"
    assert sorted(path.name for path in output.iterdir()) == [
        "figure3.md", "figure3.parquet", "figure3.pdf", "figure3.png",
    ]  # fmt: skip
    assert (output / "figure3.pdf").read_bytes()[:5] == b"%PDF-"
    assert (output / "figure3.png").read_bytes()[1:4] == b"PNG"
    assert str(output / "figure3.pdf") in capsys.readouterr().out
    table = read_table(output / "figure3.parquet").to_pandas()
    # 2 subsets, 4 measures, 3 volumes, 3 widths
    assert len(table) == 72 and table["y"].notna().all()
    metadata = read_metadata(output / "figure3.parquet")
    name = "convnet-cifar10-noise20"
    assert json.loads(metadata["sources"]) == {name: read_tables(folder).sources}
    assert json.loads(metadata["thresholds"]) == {name: 4}
    assert json.loads(metadata["axes"])["noisy jacobian_norm"]["y"].startswith("Jacobian norm (")


@pytest.mark.parametrize(
    ("figure", "given", "lacking"),
    [
        ("figure1", "convnet-cifar10-noise20", "convnet-cifar100"),
        ("figure1", "convnet-cifar100", "convnet-cifar10-noise20"),
        ("figure8", "resnet18-cifar10-noise20", "convnet-cifar10-noise20"),
        ("figure8", "convnet-cifar10-noise20", "resnet18-cifar10-noise20"),
    ],
)
def test_left_out_panels_are_announced(
    figure: str,
    given: str,
    lacking: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    saved: list[Figure],
) -> None:
    draw(figure, tmp_path / figure, write_experiment(tmp_path, given, **TABLES))
    assert f"{lacking} is not among --tables" in capsys.readouterr().out
    assert saved[0].get_suptitle().splitlines() == [f"{lacking} left out: no tables"]


@pytest.mark.parametrize("figure", [name for name, shown in FIGURES.items() if len(shown) == 1])
def test_figures_of_one_experiment_lack_none(
    figure: str, tmp_path: Path, saved: list[Figure]
) -> None:
    draw(figure, tmp_path / figure, write_experiment(tmp_path, FIGURES[figure][0], **TABLES))
    assert "left out" not in saved[0].get_suptitle()
    assert "Verdict" not in saved[0].get_suptitle()


def test_unneeded_experiments_are_ignored(tmp_path: Path) -> None:
    folders = [write_experiment(tmp_path, name, **TABLES) for name in FIGURES["figure1"]]
    draw("figure4", tmp_path / "figure4", *folders)
    metadata = read_metadata(tmp_path / "figure4.parquet")
    assert list(json.loads(metadata["sources"])) == ["convnet-cifar100"]


def test_the_verdict_is_in_the_caption(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path)
    draw("figure5", tmp_path / "figure5", folder)
    verdict = read_metadata(tmp_path / "figure5.parquet")["verdict"]
    assert verdict.startswith("Verdict: statement 8 ")
    assert f"{verdict}:\n\n- 8: " in caption("figure5", tmp_path / "figure5.parquet")
    assert "Statements:\n\n- 8: " in caption("figure5", tmp_path / "undrawn.parquet")


def test_an_experiment_that_is_not_the_papers(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, "mine", **TABLES)
    draw("mine", tmp_path / "mine", folder)
    table = read_table(tmp_path / "mine.parquet").to_pandas()
    panels = {panel.split()[0] for panel in table["panel"]}
    assert panels == {"a", "b", "c"} and set(table["experiment"]) == {"mine"}
    metadata = read_metadata(tmp_path / "mine.parquet")
    numbers = {int(number) for number in re.findall(r"\d+", metadata["verdict"])}
    assert numbers == {*range(1, 9), 13, 15}


def test_unknown_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "figure9", tmp_path / "f", write_experiment(tmp_path, **TABLES))
    assert "no figure 'figure9'; expected one of figure1, figure2" in message
    assert "the name of an experiment of --tables: convnet-cifar10-noise20" in message


def test_missing_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_experiment(tmp_path, "convnet-cifar100", **TABLES)
    message = error_of(capsys, "figure3", tmp_path / "f", folder)
    assert "figure3 needs the experiment convnet-cifar10-noise20" in message
    assert "--tables holds convnet-cifar100" in message
    assert not (tmp_path / "f.pdf").exists()


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "figure3", tmp_path / "f", tmp_path / "nowhere")
    assert "nowhere/history.parquet does not exist" in message


def test_the_same_experiment_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_experiment(tmp_path / scale, **TABLES) for scale in ("demo", "small")]
    message = error_of(capsys, "figure2", tmp_path / "f", *folders)
    assert "twice" in message and str(folders[0]) in message and str(folders[1]) in message


def test_output_with_a_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "figure2", tmp_path / "f.pdf", tmp_path)
    assert "expected a path without suffix" in message


def test_drawing_imports_no_torch_and_the_catalogue_no_matplotlib() -> None:
    script = (
        "import sys; import smoothdescent.figures.captions\n"
        "assert not {'matplotlib', 'pandas', 'scipy', 'pyarrow', 'torch'} & sys.modules.keys()\n"
        "import smoothdescent.figures.command, smoothdescent.tables.threshold\n"
        "from smoothdescent.figures import figure1, figure8\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_notebooks_backend_is_not_inherited(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, **TABLES)
    words = ["figure", "figure2", "--tables", folder, "--output", tmp_path / "figure2"]
    subprocess.run(
        [sys.executable, "-m", "smoothdescent", *map(str, words)],
        env={**os.environ, "MPLBACKEND": "module://a_notebooks_own"},
        check=True,
    )
    assert (tmp_path / "figure2.png").exists()
