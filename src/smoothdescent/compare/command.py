"""Put studies side by side: findings, curves over each other, and settings that differ.

    smoothdescent compare results/demo results/small --output demo-and-small

writes comparison.md and comparison.html into the folder; the page needs no other file and no
network. Beside them, each experiment that two studies have, by its name, has its curves as PDF and
PNG, and the numbers that they show as Parquet. A study need not be finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoothdescent.compare.curves import draw
from smoothdescent.compare.report import to_html, to_markdown
from smoothdescent.compare.study import read_studies, shared_experiments
from smoothdescent.errors import UserError
from smoothdescent.figures import style
from smoothdescent.files import write_text
from smoothdescent.provenance import provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "studies", nargs="+", type=Path, metavar="DIR", help="results of studies: results/<scale>"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="the folder to write into"
    )


def run(args: argparse.Namespace) -> None:
    """Read the studies, draw what they share, and write the report both ways.

    Raises:
        UserError: there are too few or too many studies, or one cannot be read.
    """
    if not 2 <= len(args.studies) <= len(style.STUDIES):
        raise UserError(
            f"found {len(args.studies)} folders of studies, expected 2 to {len(style.STUDIES)}"
        )
    studies = read_studies(args.studies)
    shared = shared_experiments(studies)
    for name, having in shared.items():
        drawing = draw(having)
        metadata = {
            "table": "comparison",
            "axes": drawing.axes,
            "sources": {study: experiment.sources for study, experiment in having.items()},
            "thresholds": {study: experiment.threshold for study, experiment in having.items()},
            **provenance(),
        }
        style.save(drawing.figure, drawing.table, args.output / name, metadata)
    pictures = {name: args.output / f"{name}.png" for name in shared}
    files = {suffix: args.output / f"comparison.{suffix}" for suffix in ("md", "html")}
    write_text(files["md"], to_markdown(studies, pictures))
    write_text(files["html"], to_html(studies, pictures))
    for study in studies.values():
        for sentence in study.missing:
            print(sentence)
    print(f"wrote {files['md']} {files['html']}")
