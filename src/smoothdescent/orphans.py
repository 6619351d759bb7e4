"""List the SLURM jobs that were started from a working directory and have not ended.

    smoothdescent orphans --folder my-study

Snakemake forgets its jobs when it is killed, and they run on: after `--unlock`, the same command
submits them a second time, and the second ones wait for the first. List orphans first, and
await or cancel them. The exit status is 1 if there are any jobs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from smoothdescent.errors import UserError

# Job, state, time used, nodes, user, rule and wildcards (Snakemake writes them as the comment).
COLUMNS = ("%i", "%T", "%M", "%N", "%u", "%k", "%Z")
SECONDS = 60


@dataclass(frozen=True)
class Job:
    """A job that has not ended, in SLURM's words."""

    number: str
    state: str
    elapsed: str
    nodes: str
    user: str
    comment: str
    folder: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        help="the working directory that Snakemake was started in (default: this one)",
    )


def run(args: argparse.Namespace) -> None:
    """Print the jobs and what can be done about them; exit with status 1 if there are any.

    Raises:
        UserError: SLURM cannot be asked.
    """
    folder = args.folder.resolve()
    jobs = jobs_of(folder)
    if not jobs:
        print(f"no SLURM jobs of {folder}")
        return
    print(f"{len(jobs)} SLURM job{'s' if len(jobs) > 1 else ''} of {folder}:")
    for job in jobs:
        print(f"  {job.number} {job.state} {job.elapsed} {job.nodes} {job.user} {job.comment}")
    numbers = [job.number for job in jobs]
    print(
        "If no Snakemake runs in this folder, nothing waits for them any more. Await their end:\n"
        f"  squeue --jobs {','.join(numbers)}\n"
        "or cancel them; what they have computed is kept:\n"
        f"  scancel {shlex.join(numbers)}\n"
        "Then `snakemake --unlock`, and the same command as before."
    )
    sys.exit(1)


def jobs_of(folder: Path) -> list[Job]:
    """Return the jobs with the working directory `folder`, of all users that one may see.

    Raises:
        UserError: there is no `squeue` here, or it fails.
    """
    command = ["squeue", "--noheader", "--format", "|".join(COLUMNS)]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=SECONDS)
    except FileNotFoundError:
        raise UserError(
            "squeue is not on the PATH; expected a machine from which SLURM jobs are submitted"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"squeue has not answered for {SECONDS} s; expected a SLURM controller that does"
        ) from None
    if done.returncode:
        raise UserError(f"squeue failed: {' '.join(done.stderr.split())}")
    rows = (line.strip().split("|", len(COLUMNS) - 1) for line in done.stdout.splitlines())
    jobs = [Job(*row) for row in rows]
    return [job for job in jobs if os.path.realpath(job.folder) == os.path.realpath(folder)]
