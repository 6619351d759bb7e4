"""The profiles give GPUs to the rules that can use them, and agree on all the rest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from smoothdescent.plan.forecast import Calibration, Costs

REPOSITORY = Path(__file__).parents[1]
PROFILES = ("slurm", "workstation")
EXPERIMENT = "convnet-cifar10-noise20"
TRAIN, MEASURE = (f"{stage}_convnet_cifar10_noise20_s0_4" for stage in ("train", "measure"))
GPU_RULES = {TRAIN, MEASURE}


def read(path):
    return yaml.safe_load((REPOSITORY / path / "config.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_it_has_what_the_default_profile_has(name):
    default = read("profiles/default")
    del default["cores"]  # of this machine, which a cluster's jobs do not run on
    assert default.items() <= read(f"profiles/{name}").items()


def resources(name, folder, *options):
    """Return what the jobs of figure 3 would ask for, by rule."""
    shutil.copy(REPOSITORY / "config.yaml", folder)
    # Where a rule has a message, Snakemake prints it in the place of resources.
    silence = "for each in workflow.rules:\n    each.message = None\n"
    (folder / "Snakefile").write_text(f'include: "{REPOSITORY}/Snakefile"\n\n\n{silence}')
    done = subprocess.run(
        [
            Path(sys.executable).with_name("snakemake"),
            *("--snakefile", folder / "Snakefile"),
            *("--workflow-profile", REPOSITORY / "profiles" / name),
            *(*options, "--dry-run", "figure3"),
        ],
        cwd=folder,
        text=True,
        capture_output=True,
        env={**os.environ, "PATH": os.defpath},
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return {
        rule: dict(pair.split("=", 1) for pair in line.split(", "))
        for rule, line in re.findall(
            r"^rule ([\w-]+):.*?^    resources: (.*?)$", printed, re.M | re.S
        )
    }


@pytest.mark.parametrize("name", PROFILES)
def test_resources_of_rules(name, tmp_path):
    asked = resources(name, tmp_path)
    assert asked.keys() > GPU_RULES
    assert {rule for rule, some in asked.items() if some.get("gpu") == "1"} == GPU_RULES
    for rule in GPU_RULES:
        assert (asked[rule]["runtime"], asked[rule]["mem_mb"]) == ("720", "8000")
        assert "--signal=TERM@" in asked[rule]["slurm_extra"]


def test_an_account_changes_nothing_else(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text("default-resources: {slurm_account: mine}")
    given = (("--default-resources", "slurm_account=mine"), ("--profile", mine))
    by_option, by_profile = (resources("slurm", tmp_path, *options) for options in given)
    assert by_option == by_profile
    assert {some.pop("slurm_account") for some in by_option.values()} == {"mine"}
    usual = resources("slurm", tmp_path)
    for rule in usual.keys() - {"figure3"}:
        for key in ("runtime", "mem_mb", "gpu"):
            assert by_option[rule][key] == usual[rule][key], rule
    for rule in GPU_RULES:
        assert by_option[rule]["slurm_extra"] == usual[rule]["slurm_extra"]


def test_time_and_memory_come_from_the_plan(tmp_path):
    costs = Costs(
        widths=[1, 64],
        parameters=[100, 400_000],
        train=[5e-3, 5e-3],
        evaluate=[1e-9, 1e-9],
        point=[1e-9, 1e-9],
        volumes=[0.1, 0.1],
        train_samples=1500,
        test_samples=500,
        image_size=16,
        device_memory=0,
        host_memory=2 * 10**9,
    )
    Calibration("cpu", 0, {EXPERIMENT: costs}).save(tmp_path / "results/demo/costs.json")
    asked = resources("slurm", tmp_path)
    demo = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["scales"]["demo"]
    epochs, final = (demo["defaults"][key] for key in ("epochs", "final_snapshots"))
    measured = demo["experiments"][EXPERIMENT]["measure"]
    # Five runs in a job, twice the time that is expected, and ten minutes.
    seconds = epochs * costs.train_samples * costs.train[0]
    assert int(asked[TRAIN]["runtime"]) == int(10 + 2 * 5 * seconds / 60)
    seconds = final["count"] * measured["samples"] * costs.volumes[0]
    assert int(asked[MEASURE]["runtime"]) == int(10 + 2 * 5 * seconds / 60)
    for rule in GPU_RULES:
        assert 3500 <= int(asked[rule]["mem_mb"]) <= 3600
