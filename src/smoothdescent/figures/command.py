"""Draw one figure of the paper from the tables of its experiments.

    smoothdescent figure figure3 --tables results/demo/convnet-cifar10-noise20 \\
        --output results/demo/figures/figure3

writes figure3.pdf, figure3.png and figure3.parquet, the numbers that it shows. An experiment that
is not the paper's has a figure of its own name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from smoothdescent import __version__
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES, figure_file, shown_experiments
from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables, add_tables_argument, read_all_tables
from smoothdescent.verdict.findings import mark

SUFFIXES = (".pdf", ".png", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("figure", help=f"{', '.join(FIGURES)}, or an experiment's name")
    add_tables_argument(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the files to write, without suffix: .pdf, .png and .parquet are added",
    )


def run(args: argparse.Namespace) -> None:
    """Read the tables, draw the figure and write its three files."""
    if args.output.suffix in SUFFIXES:
        raise UserError(
            f"--output is {args.output}, expected a path without suffix; "
            f"{', '.join(SUFFIXES)} are added"
        )
    found = read_all_tables(args.tables)
    if args.figure not in FIGURES and args.figure not in found:
        raise UserError(
            f"there is no figure {args.figure!r}; expected one of {', '.join(FIGURES)}, or the "
            f"name of an experiment of --tables: {', '.join(found)}"
        )
    experiments = select(args.figure, found)
    draw_and_save(args.figure, experiments, args.output)
    for name in missing(args.figure, experiments):
        print(f"{args.figure}: {name} is not among --tables; its panels are left out")
    print(f"wrote {' '.join(f'{args.output}{suffix}' for suffix in SUFFIXES)}")


def select(figure: str, experiments: dict[str, ExperimentTables]) -> dict[str, ExperimentTables]:
    """Return, by name, the experiments that a figure shows.

    Raises:
        UserError: there is none.
    """
    shown = shown_experiments(figure)
    chosen = {name: experiments[name] for name in shown if name in experiments}
    if not chosen:
        raise UserError(
            f"{figure} needs the experiment {' or '.join(shown)}; --tables holds "
            f"{', '.join(experiments)}"
        )
    return chosen


def missing(figure: str, experiments: dict[str, ExperimentTables]) -> list[str]:
    """Return the experiments of a figure that are not at hand."""
    return [name for name in shown_experiments(figure) if name not in experiments]


def draw(figure: str, experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw a figure, or the overview of an experiment of that name, from its experiments."""
    from smoothdescent.figures import style

    with style.look():
        return figure_file(figure).draw(experiments)


def draw_and_save(figure: str, experiments: dict[str, ExperimentTables], output: Path) -> None:
    """Draw a figure and write it beside the table of its numbers.

    Args:
        figure: a key of FIGURES, or the name of an experiment.
        experiments: its experiments by name; at least one.
        output: the files' path without suffix.
    """
    from smoothdescent.figures import style

    drawing = draw(figure, experiments)
    verdict = mark(figure, experiments)
    notes = [f"{name} left out: no tables" for name in missing(figure, experiments)]
    style.add_lines(drawing.figure, [*notes, *filter(None, [verdict])])
    metadata: dict[str, Any] = {
        "figure": figure,
        "axes": drawing.axes,
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        "verdict": verdict,
        "hessian_normalisation": {name: e.normalisation for name, e in experiments.items()},
        "program_version": __version__,
    }
    style.save(drawing.figure, drawing.table, output, metadata)
