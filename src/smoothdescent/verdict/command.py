"""Decide the paper's fifteen findings from the tables of the experiments.

    smoothdescent verdict --tables results/demo/convnet-cifar10-noise20 \\
        --output-parquet results/demo/verdict.parquet --output-md results/demo/verdict.md \\
        --output-html results/demo/verdict.html

Each finding holds, fails or is undecided, with the number behind it; docs/verdict.md explains the
rules.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from smoothdescent.files import write_table, write_text
from smoothdescent.provenance import provenance
from smoothdescent.tables.experiment import (
    ExperimentTables,
    add_tables_argument,
    read_all_tables,
    table_kind,
)
from smoothdescent.verdict.findings import decide_all
from smoothdescent.verdict.report import summary, to_html, to_markdown

KINDS = ("parquet", "md", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_tables_argument(parser)
    for kind in KINDS:
        parser.add_argument(f"--output-{kind}", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    """Decide all statements and write the three files.

    Raises:
        UserError: a table cannot be read, or two folders hold the same.
    """
    outputs = {kind: getattr(args, f"output_{kind}") for kind in KINDS}
    print(write_verdict(read_all_tables(args.tables), outputs))


def write_verdict(experiments: dict[str, ExperimentTables], outputs: dict[str, Path]) -> str:
    """Decide all statements and write the three files.

    Args:
        experiments: tables by the experiments' names.
        outputs: the files by KINDS.

    Returns:
        The verdict in one sentence.
    """
    findings = decide_all(experiments)
    partial = any(experiment.partial for experiment in experiments.values())
    metadata = {
        "table": table_kind("verdict", partial),
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        **provenance(),
    }
    table = pd.DataFrame([asdict(finding) for finding in findings])
    write_text(outputs["md"], to_markdown(findings, experiments))
    write_text(outputs["html"], to_html(findings, experiments))
    write_table(outputs["parquet"], table, metadata, [outputs["md"], outputs["html"]])
    return summary(findings)
