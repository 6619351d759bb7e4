"""The tables of an experiment's runs: all there, each itself, and all of one origin."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import made_again, put_aside, read_table, table_metadata
from smoothdescent.layout import history_path, run_name, sharpness_path


def read_runs(
    folder: Path, resolved: ResolvedExperiment
) -> tuple[list[pa.Table], list[tuple[Path, pa.Table]]]:
    """Read the histories and the checkpoints' tables of all runs of an experiment.

    Args:
        folder: of the runs' folders.
        resolved: the experiment, which says what runs and checkpoints there are.

    Returns:
        One history for each run, and one (file, table) for each checkpoint.

    Raises:
        UserError: a table is missing; or is damaged, another run's, not of the snapshot that the
            training wrote, or measured with other settings, code or labels, and is put aside.
    """
    experiment = resolved.experiment
    histories: list[pa.Table] = []
    checkpoints: list[tuple[Path, pa.Table]] = []
    for width in experiment.widths:
        for seed in experiment.seeds:
            run = folder / run_name(width, seed)
            expected = {
                "experiment": resolved.name,
                "width": str(width),
                "seed": str(seed),
                "training_identity": resolved.training_identity,
            }
            histories.append(_read(history_path(run), expected))
            said = table_metadata(histories[-1].schema)
            snapshots = json.loads(said["snapshots"])
            expected |= {key: said[key] for key in ("labels_sha256", "data_sha256")}
            expected["measuring_identity"] = resolved.measuring_identity
            for epoch in experiment.snapshot_epochs:
                path = sharpness_path(run, epoch)
                own = {"epoch": str(epoch), "snapshot_sha256": snapshots.get(str(epoch))}
                if epoch in experiment.final_epochs:
                    own["volumes"] = "all"
                checkpoints.append((path, _read(path, expected | own)))
    _refuse_mixture(checkpoints)
    return histories, checkpoints


def noted(table: pa.Table, key: str) -> str:
    """Return what a table's metadata have for a key."""
    return table_metadata(table.schema)[key]


def _read(path: Path, expected: dict[str, str]) -> pa.Table:
    """Read a table that says what is expected of it."""
    with made_again(path):
        return read_table(path, expected=expected)


def _refuse_mixture(checkpoints: list[tuple[Path, pa.Table]]) -> None:
    """Refuse tables that were not all measured with the same code, settings, data and labels.

    Those of another origin than the newest are put aside.
    """
    newest, table = max(checkpoints, key=lambda checkpoint: checkpoint[0].stat().st_mtime_ns)
    origin = noted(table, "measured_with")
    others = [path for path, other in checkpoints if noted(other, "measured_with") != origin]
    if others:
        for path in others:
            put_aside(path)
        raise UserError(
            f"{others[0]} and {newest} were measured with different code, data or labels and "
            f"cannot be one table; {len(others)} tables of another origin than the newest are kept "
            "as *.unusable, and the same command measures them again"
        )
