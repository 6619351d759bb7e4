"""Decide the paper's fifteen findings from the tables of the experiments.

    smoothdescent verdict --tables results/demo/convnet-cifar10-noise20 \\
        --output-parquet results/demo/verdict.parquet --output-md results/demo/verdict.md \\
        --output-html results/demo/verdict.html
    smoothdescent verdict --compare results/demo results/small --output-md scales.md

Each finding holds, fails or is undecided, with the number behind it; docs/verdict.md explains the
rules. The second form prints the verdicts of several scales side by side.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from smoothdescent.errors import UserError
from smoothdescent.files import write_table, write_text
from smoothdescent.provenance import provenance
from smoothdescent.tables.experiment import read_all_tables
from smoothdescent.verdict.comparison import compare_scales
from smoothdescent.verdict.findings import decide_all
from smoothdescent.verdict.report import summary, to_html, to_markdown

KINDS = ("parquet", "md", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="results folders of experiments, each with history.parquet and sharpness.parquet",
    )
    sources.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="results folders of scales, each with verdict.parquet",
    )
    for kind in KINDS:
        parser.add_argument(f"--output-{kind}", type=Path, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    """Decide all statements and write the three files, or compare verdicts.

    Raises:
        UserError: a table cannot be read, two folders hold the same, or an output is missing, or
            given where it is not written.
    """
    outputs = {kind: getattr(args, f"output_{kind}") for kind in KINDS}
    given = [kind for kind, path in outputs.items() if path]
    if args.compare:
        if set(given) - {"md"}:
            raise UserError("--compare writes --output-md alone, and prints without it")
        text = compare_scales(args.compare)
        if outputs["md"]:
            write_text(outputs["md"], text)
        print(text, end="")
        return
    if len(given) < len(KINDS):
        missing = ", ".join(f"--output-{kind}" for kind in KINDS if kind not in given)
        raise UserError(f"--tables needs {missing}")
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
