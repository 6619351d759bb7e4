"""Tables, figures and verdict of the runs that have ended; the study's files stay as they are."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from training.test_measure_runs import MEASURE, measure
from training.tiny import NAME, Files, tiny_config

from smoothdescent.cli import main
from smoothdescent.config.load import resolve
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table
from smoothdescent.sharpness import run_command
from smoothdescent.tables.experiment import read_tables

RAGGED = ("w2_s0", "w2_s1", "w3_s0")  # of twice two, and of a width of which there is none


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that writes a configuration and returns the files of its experiment."""
    monkeypatch.chdir(tmp_path)

    def make(**changes):
        sizes = {"widths": [2, 3, 4], "seeds": [0, 1], "measure": MEASURE, "epochs": 2}
        config = tiny_config(**sizes | {"snapshots": [0, 1]} | changes)
        names = config["experiments"]
        kept = (NAME, "convnet-cifar100")
        experiments = config["scales"]["demo"]["experiments"]
        experiments |= {name: None for name in names if name not in kept}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return Files(tmp_path / "results/demo" / NAME, resolve(config))

    return make


@pytest.fixture
def ragged(study):
    files = study()
    files.train(*RAGGED, "w4_s0")
    measure(files, *RAGGED)
    return files


def partial(capsys, *arguments):
    """Return what the command prints; no file of the study has changed."""
    capsys.readouterr()
    before = files_of_the_study()
    main(["partial", "results/demo", "--output", "so-far", *arguments])
    assert files_of_the_study() == before
    return capsys.readouterr().out


def files_of_the_study():
    """Return contents and dates of all files, and the dates of all folders."""
    return {
        path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in Path("results").rglob("*")
    }


def test_what_has_ended_is_drawn_and_says_that_it_is_partial(ragged, tmp_path, capsys):
    printed = partial(capsys)
    assert f"{NAME}: 3 of 6 runs\n" in printed
    assert "convnet-cifar100: 0 of " in printed
    assert "figure4 is not drawn: no run of convnet-cifar100 has ended" in printed
    written = tmp_path / "so-far"
    for table in ("history", "sharpness"):
        path = written / NAME / f"{table}.parquet"
        facts = read_metadata(path, {"table": f"partial {table}", "runs": "3 of 6 runs"})
        assert facts["config_hash"] == ragged.resolved.identity
        runs = read_table(path).to_pandas()[["width", "seed"]].drop_duplicates()
        assert [f"w{w}_s{s}" for w, s in runs.itertuples(index=False)] == [*RAGGED]
    note = "3 of 6 runs, none at w\u00a0= 4, not all 2 seeds at w\u00a0= 3 (1)."
    figures = sorted(path.stem for path in (written / "figures").glob("*.png"))
    assert figures == ["figure1", "figure2", "figure3", "figure5"]
    for figure in figures:
        said = read_metadata(written / f"figures/{figure}.parquet", {"figure": f"partial {figure}"})
        first = said["caption"].splitlines()[0]
        assert first.startswith("Partial: ") and first.endswith(note)
    lines = (written / "verdict.md").read_text().splitlines()
    assert lines[2].startswith("Partial: ") and lines[2].endswith(note)
    page = (written / "verdict.html").read_text()
    assert page.index("<strong>Partial: ") < page.index("<strong>At this scale ")


def test_of_all_runs_the_tables_are_the_whole_studys(ragged, tmp_path, capsys):
    ragged.train("w3_s1", "w4_s1")
    measure(ragged, "w3_s1", "w4_s0", "w4_s1")
    ragged.gather()
    assert f"{NAME}: 6 of 6 runs\n" in partial(capsys)
    whole, other = (
        read_tables(f, f != ragged.folder) for f in (ragged.folder, tmp_path / "so-far" / NAME)
    )
    pd.testing.assert_frame_equal(whole.history, other.history)
    pd.testing.assert_frame_equal(whole.sharpness, other.sharpness)
    assert whole.config == other.config and whole.final_epochs == other.final_epochs
    assert (whole.partial, other.partial) == ("", "6 of 6 runs")
    assert other.incomplete_widths == {}


def test_no_other_command_takes_partial_tables(ragged, tmp_path, capsys):
    partial(capsys)
    commands = {
        "figure": ["figure2", "--output", "f"],
        "verdict": [f"--output-{kind}=verdict.{kind}" for kind in ("md", "html", "parquet")],
        "explore": ["--output", "page.html"],
    }
    for command, words in commands.items():
        shutil.copytree(tmp_path / "so-far" / NAME, ragged.folder, dirs_exist_ok=True)
        with pytest.raises(SystemExit):
            main([command, *words, "--tables", str(ragged.folder)])
        error = capsys.readouterr().err
        assert "its table is 'partial history', expected 'history'" in error, command
    with pytest.raises(SystemExit):
        main(["compare", "so-far", str(ragged.folder.parent), "--output", "both"])
    assert "its table is 'partial verdict', expected 'verdict'" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_named_and_stays(ragged, capsys):
    tables = [ragged.folder / f"runs/{run}/sharpness/e1.parquet" for run in RAGGED]
    tables[1].write_bytes(tables[1].read_bytes()[:-1])
    shutil.copy(tables[0], tables[2])
    printed = partial(capsys)
    assert f"{NAME}: 1 of 6 runs\n  w2_s1 is left out: " in printed
    assert "e1.parquet is damaged" in printed
    assert "e1.parquet: its width is '2', expected '3'" in printed


def test_runs_measured_otherwise_than_the_newest_are_left_out(ragged, capsys, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(run_command, "measuring_code", lambda experiment: "newer")
        measure(ragged, "w4_s0")
    printed = partial(capsys)
    assert f"{NAME}: 1 of 6 runs\n" in printed
    assert printed.count("were measured with different code, data or labels") == 3


def test_runs_of_other_epochs_have_not_ended(study, capsys):
    """Also where all snapshots that are wanted now are among those of before."""
    files = study(snapshots=[0, 1])
    files.train(*RAGGED)
    measure(files, *RAGGED)
    study(snapshots=[0, 1], epochs=3)
    with pytest.raises(SystemExit):
        partial(capsys)
    study(snapshots=[0])
    with pytest.raises(SystemExit):
        partial(capsys)
    assert "its snapshots are of the epochs [0, 1, 2], expected [0, 2]" in capsys.readouterr().out


def test_nothing_has_ended(study, capsys):
    study().train("w2_s0")
    with pytest.raises(SystemExit):
        partial(capsys)
    captured = capsys.readouterr()
    assert f"{NAME}: 0 of 6 runs\n" in captured.out
    assert captured.err.startswith(
        "smoothdescent: error: results/demo has no run that is trained and measured"
    )
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("output", ["results/demo", "results/../results/demo/"])
def test_a_studys_own_folder_is_not_written_into(ragged, capsys, output):
    with pytest.raises(SystemExit):
        partial(capsys, "--output", output)
    assert f"which holds the runs of {NAME}" in capsys.readouterr().err


def test_beside_the_study_by_default(ragged, tmp_path):
    main(["partial"])
    assert (tmp_path / "results/demo/partial/verdict.md").exists()
    assert json.loads(read_metadata(tmp_path / "results/demo/partial/verdict.parquet")["sources"])


def test_no_experiment_is_called_partial():
    config = tiny_config()
    config["experiments"]["partial"] = config["experiments"][NAME]
    with pytest.raises(UserError, match=r"experiments\.partial: the workflow calls"):
        resolve(config)
