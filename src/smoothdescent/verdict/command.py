"""Decide the paper's fifteen findings from the tables of the experiments.

    smoothdescent verdict --tables results/demo/convnet-cifar10-noise20 \\
        --output-parquet results/demo/verdict.parquet --output-md results/demo/verdict.md \\
        --output-html results/demo/verdict.html

Each finding holds, fails or is undecided, with the number behind it; docs/verdict.md explains the
rules.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

from smoothdescent.config import load
from smoothdescent.errors import UserError
from smoothdescent.figures.experiment import Experiment, read_experiment
from smoothdescent.files import read_table, write_table, write_text
from smoothdescent.provenance import provenance
from smoothdescent.verdict.findings import decide_all, to_table
from smoothdescent.verdict.report import to_html, to_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="results folders of experiments, each with history.parquet and sharpness.parquet",
    )
    for kind in ("parquet", "md", "html"):
        parser.add_argument(f"--output-{kind}", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    """Decide all statements and write the three files.

    Raises:
        UserError: a table cannot be read, or two folders hold the same experiment.
    """
    experiments = read_all(args.tables)
    findings = decide_all(experiments)
    metadata = {
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        **provenance(),
    }
    write_table(args.output_parquet, to_table(findings), metadata)
    write_text(args.output_md, to_markdown(findings, experiments))
    write_text(args.output_html, to_html(findings, experiments))
    counts = Counter(finding.result for finding in findings)
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())))


def read_all(folders: list[Path]) -> dict[str, Experiment]:
    """Read the tables of several experiments, with all their columns, by name.

    Raises:
        UserError: see `run`.
    """
    found: dict[str, tuple[Path, Experiment]] = {}
    for folder in folders:
        experiment = read_experiment(folder)
        if experiment.name in found:
            raise UserError(
                f"--tables names the experiment {experiment.name} twice: "
                f"{found[experiment.name][0]} and {folder}"
            )
        tables = {
            name: read_table(folder / f"{name}.parquet").to_pandas()
            for name in ("history", "sharpness")
        }
        config = experiment.config | _dataset_block(folder)
        found[experiment.name] = (folder, replace(experiment, **tables, config=config))
    return {name: experiment for name, (_, experiment) in found.items()}


def _dataset_block(folder: Path) -> dict[str, object]:
    """Return the settings of the experiment's data set, which its tables do not hold."""
    path = folder / "config.yaml"
    if not path.exists():
        return {}
    study, _, experiment = load.read_experiment(path)
    return {"dataset": study.datasets[experiment.data.dataset].model_dump(mode="json")}
