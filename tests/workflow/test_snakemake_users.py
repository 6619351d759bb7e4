"""What users of Snakemake do to a workflow, done to a tiny study through Snakemake itself."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from training.tiny import contents
from workflow.study import REPOSITORY, Study

from smoothdescent.files import read_table

pytestmark = pytest.mark.slow

NAME = "convnet-cifar100"
RUN = f"results/demo/{NAME}/runs/w1_s0"
PREFIX = "first of $(touch PWNED)"

PARENT = f"""
configfile: "config.yaml"

before = str(config)

module one:
    snakefile: "{REPOSITORY}/Snakefile"
    config: config
    prefix: "{PREFIX}"

use rule * from one as one_*

module two:
    snakefile: "{REPOSITORY}/Snakefile"
    config: {{**config, "results": "others"}}

use rule * from two as two_*

use rule gather_tables from two as two_gather_tables with:
    threads: 2

rule mine:
    default_target: True
    input: rules.one_all.input, rules.two_tables.input
    output: "mine.txt"
    shell: "echo ${{{{PYTHONPATH:-}}}} > {{output}}; trap -p TERM >> {{output}}"

assert str(config) == before
"""

# Runs a job script, its last argument, in the background; keeps what it was asked for.
QSUB = """#!/bin/sh
echo "$*" >> submitted
for script; do :; done
sh "$script" > /dev/null 2>&1 &
echo $!
"""


def new_study(folder):
    """Return a study of two runs and one figure that nothing has run of."""
    folder.mkdir(exist_ok=True)
    study = Study(folder, NAME)
    study.set(widths=[1], seeds=[0, 1], epochs=2, data={"dataset": "procedural10"})
    return study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The same study, finished, with the commands that were printed."""
    study = new_study(tmp_path_factory.mktemp("tiny"))
    study.printed = study.run("--printshellcmds")
    return study


def assert_same_products(made, expected):
    """Compare the products in two folders: tables value for value, all else byte for byte."""
    found, files = contents(made), contents(expected)
    for name in files:
        if name.endswith("/state.safetensors"):  # no product
            continue
        if name.endswith(".parquet"):
            tables = (read_table(folder / name).to_pandas() for folder in (made, expected))
            pd.testing.assert_frame_equal(*tables)
        elif name.endswith((".safetensors", ".png", ".pdf", ".yaml", ".md")):
            assert found[name] == files[name], name


def documented(page, marker):
    """Return the YAML block of a page that holds a word."""
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / page).read_text(), re.S)
    [block] = [block for block in blocks if marker in block]
    return block


def test_two_instances_and_a_prefix_in_a_parent(tiny, tmp_path):
    study = new_study(tmp_path)
    (tmp_path / "Snakefile").write_text(PARENT)
    study.run("--snakefile", "Snakefile")
    assert_same_products(tmp_path / PREFIX / "results", tiny.folder / "results")
    tables = contents(tmp_path / "others/demo" / NAME)
    assert {"history.parquet", "sharpness.parquet"} <= tables.keys()
    assert not (tmp_path / "results").exists()
    inherited = os.environ.get("PYTHONPATH", "")
    assert (tmp_path / "mine.txt").read_text() == f"{inherited}\n", "nothing leaks into its jobs"
    # What Snakemake adds to the folder is what this test and rules have written.
    assert {path.name for path in tmp_path.iterdir()} == {
        *("Snakefile", "config.yaml", "mine.txt", ".snakemake", "others", PREFIX)
    }
    study.set(measure={"samples": 9})
    counts = study.jobs("--snakefile", "Snakefile")
    assert counts["one_measure"] == counts["two_measure"] == 2
    study.config["threads"] = "many"
    study.write()
    printed = study.run("--snakefile", "Snakefile", "--dry-run", succeeds=False)
    assert "config of the module one: threads: found 'many'" in printed


def test_printed_commands_can_be_pasted(tiny, tmp_path):
    commands = re.findall(r"^Shell command: (.*smoothdescent.*)$", tiny.printed, re.M)
    assert len(commands) == 10
    study = tiny.copy_with_results(tmp_path / "pasted")
    study.run("--delete-all-output")
    for state in study.results.glob("runs/*/state.safetensors"):
        state.unlink()
    pasted = subprocess.run(
        ["bash", "--norc", "-i"],
        input="\n".join([*commands, "echo the terminal is open"]),
        cwd=study.folder,
        text=True,
        capture_output=True,
        env={**os.environ, "PATH": os.defpath, "OMP_NUM_THREADS": "1"},
    )
    assert "the terminal is open" in pasted.stdout, pasted.stderr
    assert_same_products(study.folder / "results", tiny.folder / "results")


def test_another_scheduler(tmp_path):
    """The documented profile, with a local `qsub`."""
    study = new_study(tmp_path)
    (tmp_path / "pbs").mkdir()
    profile = documented("cluster.md", "cluster-generic-submit-cmd")
    (tmp_path / "pbs/config.yaml").write_text(profile)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/qsub").write_text(QSUB)
    (tmp_path / "bin/qsub").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"
    study.config["device"] = "cpu"
    study.write()
    study.run("--profile", "pbs", f"{RUN}/history.parquet", path=path)
    submitted = (tmp_path / "submitted").read_text().splitlines()
    asked = [
        re.search(r"ncpus=(\d+):mem=(\d+)mb:ngpus=(\d+) .*walltime=(\d+):", s) for s in submitted
    ]
    assert [match.groups() for match in asked] == [
        ("2", "4000", "0", "120"),
        ("1", "4000", "0", "120"),
        ("1", "8000", "0", "720"),
    ]


def test_without_a_shared_file_system(tiny, tmp_path):
    if shutil.which("rsync") is None:
        pytest.skip("needs rsync, which snakemake-storage-plugin-fs calls")
    storage = ["--default-storage-provider", "fs", "--shared-fs-usage", "none"]
    storage += ["--default-storage-prefix", tmp_path / "store"]
    new_study(tmp_path / "one").run(*storage)
    assert_same_products(tmp_path / "store/results", tiny.folder / "results")
    other = new_study(tmp_path / "other")
    assert "Nothing to be done" in other.run("--dry-run", *storage)
    for path in (tmp_path / "store/results/demo/figures").iterdir():
        path.unlink()
    other.run("figure4", *storage)
    assert_same_products(tmp_path / "store/results", tiny.folder / "results")
    assert not (tmp_path / "other/results").exists()


def test_targets_that_people_type(tiny, tmp_path):
    study = new_study(tmp_path)
    data = {"prepare_data": 1, "make_labels": 1}
    assert study.jobs("train") == {**data, "train": 3}, "two jobs and the target of this name"
    assert study.jobs("measure") == {**data, "train": 2, "measure": 3}
    gathered = {**data, "train": 2, "measure": 2, "gather_tables": 1}
    assert study.jobs("tables") == {**gathered, "tables": 1}
    assert study.jobs(NAME) == {**gathered, NAME: 1}
    assert study.jobs(f"{RUN}/snapshots/e2.safetensors") == {**data, "train": 1}
    assert study.jobs("--until", "train_convnet_cifar100") == {**data, "train": 2}
    redraw = ("-R", "draw_figure", "decide_verdict")
    redrawn = {"draw_figure": 1, "decide_verdict": 1, "explore": 1, "all": 1}
    assert tiny.jobs(*redraw) == redrawn


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--configfile", "bad.yaml"), "bad.yaml: threads: found 'many'"),
        (("--config", "threads=many"), "--config: threads: found 'many'"),
        (("--config", "results=$(>PWNED)"), "--config: results: '$(>PWNED)' names a variable"),
        (("--config", "results=a;>PWNED"), "--config: results: found 'a;>PWNED'"),
    ],
)
def test_errors_name_what_was_edited(tiny, tmp_path, options, sentence):
    study = tiny.copy_to(tmp_path / "copy")
    (study.folder / "bad.yaml").write_text("threads: many\n")
    assert sentence in study.run("--dry-run", *options, succeeds=False)
    assert not (study.folder / "PWNED").exists()


def test_new_snapshot_epochs_are_announced(tiny, tmp_path):
    study = tiny.copy_with_results(tmp_path / "copy")
    study.set(snapshots=[0, 1], seeds=[0])
    assert "trained runs lack" not in study.run("--dry-run")
    (study.results / "runs/w1_s0/snapshots/e1.safetensors").unlink()
    before = contents(study.results / "runs")
    announced = "1 trained runs lack snapshots up to epoch 1, and train again from the beginning"
    assert announced in study.run("--dry-run")
    study.run("train")
    log = (study.results / "logs/train/w1_s0.log").read_text()
    assert "products of epochs 1 are missing; training again" in log
    after = contents(study.results / "runs")
    assert all(after[name] == before[name] for name in before if "snapshots" in name)


def test_files_that_snakemake_does_not_know(tiny):
    listed = re.findall(r"^results/\S+$", tiny.run("--list-untracked"), re.M)
    kinds = {re.sub(r"w1_s\d", "*", name.removeprefix("results/demo/")) for name in listed}
    own = {f"{NAME}/runs/*.log", f"{NAME}/runs/*/run.json", f"{NAME}/runs/*/state.safetensors"}
    assert {kind for kind in kinds if "benchmarks/" not in kind} == own


def test_generated_unit_tests_pass(tiny, tmp_path):
    """They need the Snakefile in the working directory."""
    study = tiny.copy_with_results(tmp_path / "copy")
    for name in ("Snakefile", "workflow", "profiles", "envs", "src"):
        (study.folder / name).symlink_to(REPOSITORY / name)
    study.run("--snakefile", "Snakefile", "--generate-unit-tests")
    tests = sorted(path.stem for path in (study.folder / ".tests/unit").glob("test_*.py"))
    assert len(tests) == 8
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".tests/unit"],
        cwd=study.folder,
        text=True,
        capture_output=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"},
    )
    assert done.returncode == 0, done.stdout


def test_the_report_has_tables_and_versions(tiny, tmp_path):
    study = tiny.copy_with_results(tmp_path / "copy")
    study.run("--report", "report.html")
    page = (study.folder / "report.html").read_text()
    for file in (
        "figure4.pdf",
        "figure4.png",
        "history.parquet",
        "sharpness.parquet",
        "config.yaml",
    ):
        assert file in page
    assert f"Trained with numba {version('numba')}, torch {version('torch')}" in page
    assert "**" not in page.partition("Tables of")[2][:40]
