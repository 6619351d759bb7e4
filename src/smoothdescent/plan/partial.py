"""Draw figures and decide findings from the runs of a study that have ended so far.

    smoothdescent partial results/small
    smoothdescent partial results/small --output so-far

writes tables, figures and verdict as a finished study has them, into results/small/partial or the
folder named. A run counts once it is trained and all of its checkpoints are measured. All files
are marked as partial, and are refused in place of the whole study's.

The study's files are read, and nothing else: this works beside a running study, on a login node
and after a crash. A file that is damaged is named, and its run left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoothdescent.config.schema import Study
from smoothdescent.errors import UserError
from smoothdescent.figures import figures_of, shown_experiments
from smoothdescent.figures.command import SUFFIXES, write_figure
from smoothdescent.plan.status import add_study_arguments, read_study
from smoothdescent.tables.experiment import ExperimentTables, read_tables
from smoothdescent.tables.partial import count_text, ended_runs, write_partial
from smoothdescent.verdict.command import KINDS, write_verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_study_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="what to write into (default: the folder `partial` in that of the study)",
    )


def run(args: argparse.Namespace) -> None:
    """Write tables, figures and verdict of the runs that have ended, and say what they rest on.

    Raises:
        UserError: the configuration is at fault, no run has ended, or the output is a study's.
    """
    study = read_study(args.folder, args.configfile)
    folder = Path(study.results) / study.scale
    output = args.output or folder / "partial"
    _refuse_studies(output, study)
    tables = _gather(study, folder, output)
    if not tables:
        raise UserError(
            f"{folder} has no run that is trained and measured with the settings in force; "
            f"`smoothdescent status {folder}` says how far each has come"
        )
    drawn = figures_of(list(tables))
    for figure in figures_of(list(study.experiments)):
        stem = output / "figures" / figure
        if figure in drawn:
            write_figure(figure, tables, stem)
            print(f"wrote {' '.join(f'{stem}{suffix}' for suffix in SUFFIXES)}")
        else:
            print(f"{figure} is not drawn: no run of {shown_experiments(figure)[0]} has ended")
    outputs = {kind: output / f"verdict.{kind}" for kind in KINDS}
    summary = write_verdict(tables, outputs)
    print(f"wrote {' '.join(map(str, outputs.values()))}")
    print(f"{summary} (partial)")


def _refuse_studies(output: Path, study: Study) -> None:
    """Make sure that no tables of a study are replaced.

    Raises:
        UserError: the output is a study's folder.
    """
    for name in study.experiments:
        if (output / name / "runs").exists():
            raise UserError(
                f"--output is {output}, which holds the runs of {name}; expected a folder that is "
                "not a study's"
            )


def _gather(study: Study, folder: Path, output: Path) -> dict[str, ExperimentTables]:
    """Write the partial tables of the experiments that have some, and return them by name."""
    tables = {}
    for name in study.experiments:
        resolved = study.resolved(name)
        ended, faults = ended_runs(folder / name / "runs", resolved)
        print("\n  ".join([f"{name}: {count_text(ended, resolved)}", *faults]))
        if ended:
            paths = write_partial(ended, resolved, output / name)
            print(f"wrote {' '.join(map(str, paths))}")
            tables[name] = read_tables(output / name, partial=True)
    return tables
