"""Draw one figure of the paper from the tables of its experiments.

    smoothdescent figure figure3 --tables results/demo/convnet-cifar10-noise20 \\
        --output results/demo/figures/figure3

writes figure3.pdf, figure3.png and figure3.parquet, the numbers that it shows.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from smoothdescent import __version__
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES
from smoothdescent.figures.experiment import Experiment, read_experiment

SUFFIXES = (".pdf", ".png", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("figure", help=f"one of {', '.join(FIGURES)}")
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="results folders of experiments, each with history.parquet and sharpness.parquet",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the files to write, without suffix: .pdf, .png and .parquet are added",
    )


def run(args: argparse.Namespace) -> None:
    """Read the tables, draw the figure and write its three files."""
    if args.figure not in FIGURES:
        raise UserError(f"there is no figure {args.figure!r}; the figures are {', '.join(FIGURES)}")
    if args.output.suffix in SUFFIXES:
        raise UserError(
            f"--output is {args.output}, expected a path without suffix; "
            f"{', '.join(SUFFIXES)} are added"
        )
    experiments = select(args.figure, args.tables)
    draw_and_save(args.figure, experiments, args.output)
    for name in FIGURES[args.figure]:
        if name not in experiments:
            print(f"{args.figure}: {name} is not among --tables; its panels are left out")
    print(f"wrote {' '.join(f'{args.output}{suffix}' for suffix in SUFFIXES)}")


def select(figure: str, folders: list[Path]) -> dict[str, Experiment]:
    """Read the folders and return, by name, the experiments that the figure shows.

    Raises:
        UserError: no folder holds an experiment of the figure, two hold the same one, or a table
            cannot be read.
    """
    found: dict[str, tuple[Path, Experiment]] = {}
    for folder in folders:
        experiment = read_experiment(folder)
        if experiment.name in found:
            raise UserError(
                f"--tables names the experiment {experiment.name} twice: "
                f"{found[experiment.name][0]} and {folder}"
            )
        found[experiment.name] = (folder, experiment)
    chosen = {name: found[name][1] for name in FIGURES[figure] if name in found}
    if not chosen:
        raise UserError(
            f"{figure} needs the experiment {' or '.join(FIGURES[figure])}; --tables holds "
            f"{', '.join(found)}"
        )
    return chosen


def draw_and_save(figure: str, experiments: dict[str, Experiment], output: Path) -> None:
    """Draw a figure and write it beside the table of its numbers.

    Args:
        figure: a key of FIGURES.
        experiments: its experiments by name; at least one.
        output: the files' path without suffix.
    """
    from smoothdescent.figures import style

    module = importlib.import_module(f"smoothdescent.figures.{figure}")
    drawing = module.draw(experiments)
    metadata: dict[str, Any] = {
        "figure": figure,
        "axes": drawing.axes,
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        "hessian_normalisation": {name: e.normalisation for name, e in experiments.items()},
        "program_version": __version__,
    }
    style.save(drawing.figure, drawing.table, output, metadata)
