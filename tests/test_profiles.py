"""The profiles give GPUs to the rules that can use them, and agree on all the rest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
PROFILES = ("slurm", "workstation")
GPU_RULES = {"train_runs", "measure_runs"}


def read(path):
    return yaml.safe_load((REPOSITORY / path / "config.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_it_has_what_the_default_profile_has(name):
    default = read("profiles/default")
    assert default.items() <= read(f"workflow/profiles/{name}").items()


@pytest.mark.parametrize("name", PROFILES)
def test_resources_of_rules(name, tmp_path):
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("snakemake"),
            *("--snakefile", REPOSITORY / "Snakefile"),
            *("--workflow-profile", REPOSITORY / "workflow/profiles" / name),
            *("--dry-run", "figure3"),
        ],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={**os.environ, "PATH": os.defpath},
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    resources = {}
    for rule, line in re.findall(r"^rule (\w+):.*?^    resources: (.*?)$", printed, re.M | re.S):
        resources[rule] = dict(pair.split("=", 1) for pair in line.split(", "))
    assert resources.keys() > GPU_RULES
    assert {rule for rule, asked in resources.items() if asked.get("gpu") == "1"} == GPU_RULES
    if name == "slurm":
        partitions = {rule: asked["slurm_partition"] for rule, asked in resources.items()}
        assert partitions == {rule: "gpu" if rule in GPU_RULES else "cpu" for rule in resources}
        assert all("--signal=TERM@" in asked["slurm_extra"] for asked in resources.values())
