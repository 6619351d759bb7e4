"""The tables of an experiment's runs: all there, each itself, and all of one origin."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import expect, put_aside, read_table, table_metadata
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
        UserError: a table is missing; is damaged or another run's, and is put aside; was not
            measured of the snapshot that the training wrote; or was measured with other code,
            settings or labels than the first.
    """
    experiment = resolved.experiment
    trained_with = resolved.training_identity
    histories: list[pa.Table] = []
    checkpoints: list[tuple[Path, pa.Table]] = []
    for width in experiment.widths:
        for seed in experiment.seeds:
            run = folder / run_name(width, seed)
            expected = {
                "experiment": resolved.name,
                "width": str(width),
                "seed": str(seed),
                "training_identity": trained_with,
            }
            histories.append(_read(history_path(run), expected))
            snapshots = json.loads(noted(histories[-1], "snapshots"))
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
    if not path.exists():
        raise UserError(f"{path} does not exist; expected the table of a trained or measured run")
    try:
        table = read_table(path)
        expect(path, table_metadata(table.schema), expected)
    except UserError as error:
        raise UserError(
            f"{error}; it is kept as {put_aside(path).name}, and the same command makes it again"
        ) from None
    return table


def _refuse_mixture(checkpoints: list[tuple[Path, pa.Table]]) -> None:
    """Refuse tables that were not all measured with the same code, settings, data and labels."""
    first, table = checkpoints[0]
    origin = noted(table, "measured_with")
    for path, other in checkpoints[1:]:
        if noted(other, "measured_with") != origin:
            raise UserError(
                f"{first} and {path} were measured with different code, settings or labels "
                f"({origin} and {noted(other, 'measured_with')}) and cannot be one table; delete "
                "the older of them and all like it, and the same command measures them again"
            )
