"""Pack a finished study as an RO-Crate: a folder or a .zip for an archive or a reviewer.

    smoothdescent crate results/small
    smoothdescent crate results/small --output small.zip --weights

It holds configuration, tables, figures, verdict, the workflow and its graph, and describes them:
ro-crate-metadata.json says what was made from what and with which versions (Workflow Run Crate),
croissant.json what the columns of the tables mean. Add authors, and choose another license if you
like, in the first of these before you publish.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from smoothdescent.crate.content import make_crate
from smoothdescent.crate.study import read_finished
from smoothdescent.errors import UserError
from smoothdescent.files import atomic_path
from smoothdescent.write_faults import write_faults_told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, help="results/<scale>")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="a new folder, or a new file *.zip (default: crate in the study's folder)",
    )
    parser.add_argument("--weights", action="store_true", help="with the snapshots of all runs")


def run(args: argparse.Namespace) -> None:
    """Write the crate; either all of it is there afterwards, or nothing.

    Raises:
        UserError: the study is not finished, is damaged, or the output exists.
    """
    output = args.output or args.folder / "crate"
    if os.path.lexists(output):
        raise UserError(f"--output is {output}, which exists; expected a new folder or .zip file")
    study = read_finished(args.folder)
    crate = make_crate(study, with_weights=args.weights)
    if output.suffix == ".zip":
        with atomic_path(output) as temporary:
            crate.write_zip(temporary)
    else:
        with write_faults_told(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
                crate.write(Path(temporary) / output.name)
                (Path(temporary) / output.name).rename(output)
    print(f"wrote {output}: {study.headline}")
