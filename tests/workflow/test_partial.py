"""Partial results of a study that Snakemake runs, and that takes none of them for its own."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from workflow.study import NAME, SIZES, wait_until
from workflow.test_crashes import ENDLESS

pytestmark = pytest.mark.slow

OTHER = "convnet-cifar100"


def run_some(study):
    """Let Snakemake train and measure three of four runs."""
    runs = study.results.relative_to(study.folder) / "runs"
    study.run(*(f"{runs}/{run}/sharpness/e4.parquet" for run in ("w1_s0", "w1_s1", "w2_s0")))


def partial(study):
    """Return what the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "smoothdescent", "partial", "results/demo"],
        cwd=study.folder, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(study):
    """Return contents and dates of the study's files: its results, and Snakemake's records."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for folder in ("results", ".snakemake")
        for path in (study.folder / folder).rglob("*")
        if path.is_file() and "results/demo/partial" not in str(path)
    }


def test_some_runs_of_a_study_that_stands_still(new_study):
    run_some(new_study)
    before = files(new_study)
    assert f"{NAME}: 3 of 4 runs\n" in partial(new_study)
    assert files(new_study) == before
    results = new_study.folder / "results/demo"
    assert (results / "partial/figures/figure3.png").stat().st_size
    # In the place of the tables that are still to be made.
    shutil.copytree(results / "partial" / NAME, results / NAME, dirs_exist_ok=True)
    printed = new_study.run("figure3", succeeds=False)
    assert "its table is 'partial history', expected 'history'" in printed


def test_the_plain_command_makes_again_what_partial_results_replaced(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "copy")
    assert f"{NAME}: 4 of 4 runs\n" in partial(study)
    results = study.folder / "results/demo"
    copied = [f"{NAME}/{name}" for name in ("history.parquet", "sharpness.parquet", "config.yaml")]
    copied += [f"figures/figure3.{suffix}" for suffix in ("png", "pdf", "md", "parquet")]
    copied += [f"verdict.{suffix}" for suffix in ("md", "html", "parquet")]
    whole = {name: (results / name).read_bytes() for name in copied}
    for name in copied:
        date = (results / name).stat().st_mtime_ns
        shutil.copy(results / "partial" / name, results / name)
        os.utime(results / name, ns=(date, date))
    printed = study.run()
    for product in (f"{NAME}/history", f"{NAME}/sharpness", "figures/figure3", "verdict"):
        assert f"{product}.parquet is not what it was" in printed
    assert {name: (results / name).read_bytes() for name in copied} == whole
    assert study.jobs() == {}


def test_beside_a_running_study(new_study):
    run_some(new_study)
    data = {"dataset": "procedural10"}
    block = SIZES | ENDLESS | {"data": data}
    new_study.config["scales"]["demo"]["experiments"][OTHER] = block
    new_study.config["autosave_minutes"] = 1000
    new_study.write()
    run = new_study.folder / "results/demo" / OTHER / "runs/w2_s0"
    process = new_study.start(f"{run.relative_to(new_study.folder)}/history.parquet")
    try:
        wait_until((run / "snapshots/e5.safetensors").exists, process)
        wait_until(lambda: "epoch 50:" in run.with_name("w2_s0.log").read_text(), process)
        before = files(new_study)
        printed = partial(new_study)
        after = files(new_study)
        assert process.poll() is None, "it trains on"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    # Those in which the training and Snakemake themselves say how far they are.
    changed = {str(path) for path in before if before[path] != after.get(path)}
    assert all(re.search(r"w2_s0\.(log|lease)$|/log/.*\.log$", path) for path in changed), changed
    assert after.keys() == before.keys()
    assert re.search(rf"^{NAME}: \d of 4 runs$", printed, re.M)
    assert f"{OTHER}: 0 of 1 runs" in printed
    assert f"figure4 is not drawn: no run of {OTHER} has ended" in printed
