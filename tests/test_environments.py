"""pip and conda install the same versions, and the package asks for nothing else."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]


def pins(lines):
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+)==([\w.]+)", line.strip()) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


PINNED = pins((REPOSITORY / "requirements.txt").read_text().splitlines())
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_conda_pins_what_pip_pins(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    [packages] = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    conda = pins(packages)
    assert len(conda) == len(packages), "every package is pinned"
    assert conda == {name: PINNED[name] for name in conda}


def test_the_container_copies_what_is_here_and_installs_what_is_pinned():
    text = (REPOSITORY / "envs/Dockerfile").read_text()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {words[0] for words in lines} == {"FROM", "COPY", "RUN", "CMD"}
    copied = [name for words in lines if words[0] == "COPY" for name in words[1:-1]]
    assert "requirements.txt" in copied
    assert all((REPOSITORY / name).exists() for name in copied)


def test_every_rule_has_an_environment():
    text = "".join(p.read_text() for p in (REPOSITORY / "workflow/rules").glob("*.smk"))
    named = set(re.findall(r'"\.\./\.\./(envs/[a-z]+\.yaml)"', text))
    assert named == {f"envs/{path.name}" for path in ENVIRONMENTS}
    for rule in re.split(r"\n(?=rule )", text):
        if "shell:" in rule:
            assert "conda:" in rule, rule.splitlines()[0]


def test_files_of_the_community_are_what_their_readers_expect():
    catalogue = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())
    assert catalogue["usage"]["software-stack-deployment"]["conda"] is True
    checks = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    assert checks["jobs"]["checks"]["steps"][-1] == {"run": ".ci/run"}


def test_the_package_and_its_extra_ask_for_what_is_pinned():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["study"]]
    names = [re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in lines]
    workflow = [name for name in PINNED if name.startswith("snakemake")]
    assert sorted([*names, *workflow]) == sorted(PINNED)


def test_torch_and_torchvision_match():
    # torchvision 0.N is built for torch 2.(N - 15).
    torch, torchvision = (PINNED[name].split(".") for name in ("torch", "torchvision"))
    assert int(torch[1]) + 15 == int(torchvision[1])
