"""Where the files of a run are: one training of (experiment, width, seed).

    runs/w4_s0/snapshots/e100.safetensors    the weights after 100 epochs
    runs/w4_s0/history.parquet               losses, accuracies and predictions over epochs
    runs/w4_s0/sharpness/e100.parquet        what was measured of that snapshot
    runs/w4_s0/state.safetensors             the training state, from which the run resumes
    runs/w4_s0.log                           what all jobs of the run have logged

The first three are declared outputs of the workflow's rules; the rest is the training's own.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def run_name(width: int | str, seed: int | str) -> str:
    """Return the name of a run and of its folder; of wildcards, the pattern of such names."""
    return f"w{width}_s{seed}"


def parse_run(name: str) -> tuple[int, int]:
    """Return the width and the seed of a run's name.

    Raises:
        ArgumentTypeError: it is not such a name.
    """
    match = re.fullmatch(r"w(\d+)_s(\d+)", name)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{name!r} is not a run name; expected w{{width}}_s{{seed}}"
        )
    return int(match[1]), int(match[2])


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that jobs which train or measure runs share."""
    add = parser.add_argument
    add("--settings", required=True, help="the experiment and its data set, as JSON")
    add("--data", required=True, help="the decoded data set")
    add("--labels", required=True, help="the label table")
    add("--runs", required=True, nargs="+", type=parse_run, help="runs, such as w4_s0 w4_s1")
    add("--folder", required=True, type=Path, help="folder of the runs' folders")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")


def snapshot_path(folder: Path, epoch: int) -> Path:
    """Return the file of one epoch's weights in a run's folder."""
    return folder / "snapshots" / f"e{epoch}.safetensors"


def sharpness_path(folder: Path, epoch: int) -> Path:
    """Return the table of one epoch's measures in a run's folder."""
    return folder / "sharpness" / f"e{epoch}.parquet"


def history_path(folder: Path) -> Path:
    """Return the history in a run's folder."""
    return folder / "history.parquet"


def state_path(folder: Path) -> Path:
    """Return the training state in a run's folder."""
    return folder / "state.safetensors"


def log_path(folder: Path) -> Path:
    """Return what all jobs of a run have logged; beside its folder, which may be set aside."""
    return folder.with_name(f"{folder.name}.log")
