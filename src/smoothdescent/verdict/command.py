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
from smoothdescent.tables.experiment import add_tables_argument, read_all_tables
from smoothdescent.verdict.findings import decide_all
from smoothdescent.verdict.report import summary, to_html, to_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_tables_argument(parser)
    for kind in ("parquet", "md", "html"):
        parser.add_argument(f"--output-{kind}", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    """Decide all statements and write the three files.

    Raises:
        UserError: a table cannot be read, or two folders hold the same.
    """
    experiments = read_all_tables(args.tables)
    findings = decide_all(experiments)
    metadata = {
        "table": "verdict",
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        **provenance(),
    }
    table = pd.DataFrame([asdict(finding) for finding in findings])
    write_text(args.output_md, to_markdown(findings, experiments))
    write_text(args.output_html, to_html(findings, experiments))
    write_table(args.output_parquet, table, metadata, [args.output_md, args.output_html])
    print(summary(findings))
