"""Draw one figure of the paper from the tables of its experiments.

    smoothdescent figure figure3 --tables results/demo/convnet-cifar10-noise20 \\
        --output results/demo/figures/figure3

writes figure3.pdf, figure3.png, its caption figure3.md and figure3.parquet, the numbers that it
shows. An experiment that is not the paper's has a figure of its own name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoothdescent import __version__
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES, figure_file, panels, shown_experiments, style
from smoothdescent.figures.captions import compose
from smoothdescent.figures.drawing import Drawing
from smoothdescent.files import write_text
from smoothdescent.layout import run_name
from smoothdescent.tables.experiment import (
    ExperimentTables,
    add_tables_argument,
    read_all_tables,
    table_kind,
)
from smoothdescent.verdict.findings import mark

SUFFIXES = (".pdf", ".png", ".parquet", ".md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("figure", help=f"{', '.join(FIGURES)}, or an experiment's name")
    add_tables_argument(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the files to write, without suffix: .pdf, .png, .parquet and .md are added",
    )


def run(args: argparse.Namespace) -> None:
    """Read the tables, draw the figure and write its four files.

    Raises:
        UserError: there is no such figure, or its tables are missing or damaged.
    """
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
    shown = shown_experiments(args.figure)
    if not found.keys() & {*shown}:
        raise UserError(
            f"{args.figure} needs the experiment {' or '.join(shown)}; --tables holds "
            f"{', '.join(found)}"
        )
    write_figure(args.figure, found, args.output)
    for name in shown:
        if name not in found:
            print(f"{args.figure}: {name} is not among --tables; its panels are left out")
    print(f"wrote {' '.join(f'{args.output}{suffix}' for suffix in SUFFIXES)}")


def write_figure(figure: str, found: dict[str, ExperimentTables], output: Path) -> None:
    """Draw a figure and write its four files.

    Args:
        figure: its name.
        found: tables by the experiments' names, those of one that it shows among them.
        output: the path of the files without suffix.
    """
    shown = shown_experiments(figure)
    experiments = {name: found[name] for name in shown if name in found}
    drawing = draw(figure, experiments)
    partial = panels.partial_lines(experiments.values())
    lines = [f"{name} left out: no tables" for name in shown if name not in found]
    note = panels.marks_note(experiments.values())
    seen = {"color": style.VERMILLION} if partial else {}
    style.add_lines(drawing.figure, partial + lines + [note] * bool(note), **seen)
    verdict = mark(figure, experiments)
    caption = compose(figure, experiments, verdict)
    metadata = {
        "figure": table_kind(figure, bool(partial)),
        "axes": drawing.axes,
        "sources": {name: experiment.sources for name, experiment in experiments.items()},
        "thresholds": {name: experiment.threshold for name, experiment in experiments.items()},
        "unsettled": {
            name: {run_name(*run): text for run, text in experiment.unsettled.items()}
            for name, experiment in experiments.items()
        },
        "verdict": verdict,
        "caption": caption,
        "hessian_normalisation": {name: e.normalisation for name, e in experiments.items()},
        "program_version": __version__,
    }
    caption_file = output.with_name(f"{output.name}.md")
    write_text(caption_file, f"{caption}\n")
    style.save(drawing.figure, drawing.table, output, metadata, [caption_file])


def draw(figure: str, experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw a figure, or the overview of an experiment of that name.

    Args:
        figure: a key of FIGURES, or the name of an experiment.
        experiments: those that it shows, by name; at least one.
    """
    with style.look():
        return figure_file(figure).draw(experiments)
