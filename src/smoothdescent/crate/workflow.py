"""The workflow that a study was made with: its files, its configuration, its graph of rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

import smoothdescent
from smoothdescent.config.load import read_yaml
from smoothdescent.crate.study import FinishedStudy
from smoothdescent.errors import UserError

# All that Snakemake reads; the package that the rules call is installed, by its version.
_PATTERNS = ("Snakefile", "workflow/**/*", "profiles/default/*", "envs/*.yaml", "requirements.txt")


def workflow_folder() -> Path:
    """Return the folder of the Snakefile: of the package's own clone, else this one.

    Raises:
        UserError: there is none.
    """
    for folder in (Path(smoothdescent.__file__).parents[2], Path()):
        if (folder / "workflow/rules/study.smk").is_file():
            return folder
    raise UserError(
        "workflow/rules/study.smk is neither beside the package nor here; expected this command to "
        "run in a clone of the repository, whose rules it packs"
    )


def workflow_files(folder: Path) -> list[Path]:
    """Return the files of the workflow, and its license."""
    found = (path for pattern in (*_PATTERNS, "LICENSE") for path in folder.glob(pattern))
    return sorted(path for path in found if path.is_file())


def configuration(study: FinishedStudy, folder: Path) -> str:
    """Return a `config.yaml` from which the workflow makes the study again.

    Experiments and data sets are those that the tables were made with; what determines no result,
    such as the device, is the workflow's own.

    Args:
        study: whose settings.
        folder: that of the workflow.

    Raises:
        UserError: two experiments were made with different data sets of one name.
    """
    datasets: dict[str, Any] = {}
    experiments = {}
    for name, resolved in study.experiments.items():
        contents, key = resolved.contents, resolved.experiment.data.dataset
        experiments[name] = contents["experiment"]
        if datasets.setdefault(key, contents["dataset"]) != contents["dataset"]:
            raise UserError(
                f"{study.folder / name}: its data set {key} has other settings than in the "
                "experiments before it, expected the same; the plain command of Snakemake makes "
                "all with the settings in force"
            )
    content = read_yaml(folder / "config.yaml")
    content.pop("defaults", None)
    content |= {"scale": study.scale, "results": "results", "scales": {study.scale: {}}}
    content |= {"datasets": datasets, "experiments": experiments}
    head = "# What the study was made with; every default is filled in.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=100)


def rule_graph(study: FinishedStudy, folder: Path, config: str) -> str:
    """Return the graph of the workflow's rules, for Graphviz.

    Snakemake draws it from the configuration that is packed, so this also proves that one.

    Args:
        study: whose images are looked for, nothing else of it.
        folder: that of the workflow.
        config: the content of `config.yaml`.

    Raises:
        UserError: Snakemake is not installed, or refuses the configuration.
    """
    places = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]  # of networks of the user's
    with TemporaryDirectory() as here:
        (Path(here) / "config.yaml").write_text(config, encoding="utf-8")
        scale = Path(here) / "results" / study.scale
        scale.mkdir(parents=True)
        (scale / "data").symlink_to((study.folder / "data").resolve())
        snakefile = (folder / "Snakefile").resolve()
        command = [sys.executable, "-m", "snakemake", "--rulegraph", "dot"]
        done = subprocess.run(
            [*command, "--snakefile", snakefile],
            cwd=here,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = " ".join(done.stderr.split())[-500:]
        raise UserError(f"Snakemake cannot draw the graph of rules: {last}")
    return done.stdout
