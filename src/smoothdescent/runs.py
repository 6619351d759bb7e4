"""Names and files of a run: one training of (experiment, width, seed)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def run_name(width: int, seed: int) -> str:
    """Return the name of a run, which its folder has too."""
    return f"w{width}_s{seed}"


def parse_run(name: str) -> tuple[int, int]:
    """Return the width and the seed of a run's name.

    Raises:
        ArgumentTypeError: it is no such name.
    """
    match = re.fullmatch(r"w(\d+)_s(\d+)", name)
    if not match:
        raise argparse.ArgumentTypeError(f"{name!r} is no run; expected w{{width}}_s{{seed}}")
    return int(match[1]), int(match[2])


def snapshot_path(folder: Path, epoch: int) -> Path:
    """Return the file of one epoch's weights in a run's folder."""
    return folder / "snapshots" / f"e{epoch}.safetensors"


def sharpness_path(folder: Path, epoch: int) -> Path:
    """Return the table of one epoch's measures in a run's folder."""
    return folder / "sharpness" / f"e{epoch}.parquet"


def history_path(folder: Path) -> Path:
    """Return the history in a run's folder."""
    return folder / "history.parquet"


def log_path(folder: Path) -> Path:
    """Return what all jobs of a run have logged; beside its folder, which may be put aside."""
    return folder.with_name(f"{folder.name}.log")
