"""The tables of an experiment's runs: all there, each itself, and all of one origin."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import (
    canonical_json,
    expect,
    made_again,
    read_table,
    set_aside,
    sha256_bytes,
    table_metadata,
)
from smoothdescent.layout import history_path, run_name, sharpness_path

if TYPE_CHECKING:
    import pandas as pd


def runs_of(resolved: ResolvedExperiment) -> list[tuple[int, int]]:
    """Return the runs of an experiment, (width, seed), in their order."""
    return [*itertools.product(resolved.experiment.widths, resolved.experiment.seeds)]


def read_histories(folder: Path, resolved: ResolvedExperiment) -> dict[tuple[int, int], pa.Table]:
    """Read the histories of all runs of an experiment.

    Args:
        folder: of the runs' folders.
        resolved: the experiment, which says what runs there are.

    Returns:
        By (width, seed), in the order of widths and seeds.

    Raises:
        UserError: histories are missing; or are damaged, another run's, of other epochs or without
            the predictions of training samples, and are set aside.
    """
    histories, faults = {}, []
    for run in runs_of(resolved):
        path = history_path(folder / run_name(*run))
        try:
            with made_again(path):
                histories[run] = read_history(path, resolved, run)
        except UserError as error:
            faults.append(str(error))
    if faults:
        more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise UserError(faults[0] + more)
    return histories


def read_checkpoints(
    folder: Path, resolved: ResolvedExperiment, histories: dict[tuple[int, int], pa.Table]
) -> Iterator[tuple[tuple[int, int], dict[int, tuple[Path, pa.Table]]]]:
    """Read the checkpoints' tables of an experiment, one run at a time.

    Args:
        folder, resolved: see `read_histories`.
        histories: what it has returned.

    Yields:
        (width, seed), and by epoch the file and the table of each checkpoint.

    Raises:
        UserError: a table is missing; or is damaged, another run's, not of the snapshot that the
            training wrote, or measured with other settings, code or labels, and is set aside. That
            all are of one origin is known after the last run.
    """
    origins: dict[Path, str] = {}
    for run, history in histories.items():
        checkpoints = {}
        for epoch, expected in checkpoint_facts(resolved, run, history).items():
            path = sharpness_path(folder / run_name(*run), epoch)
            with made_again(path):
                table = read_table(path, expected=expected)
            checkpoints[epoch] = path, table
            origins[path] = noted(table, "measured_with")
        yield run, checkpoints
    _refuse_mixture(origins)


def checkpoint_facts(
    resolved: ResolvedExperiment, run: tuple[int, int], history: pa.Table
) -> dict[int, dict[str, str]]:
    """Return what the tables of a run's checkpoints should say of themselves, by epoch."""
    experiment, said = resolved.experiment, table_metadata(history.schema)
    snapshots = json.loads(said["snapshots"])
    expected = resolved.of_run(*run)
    expected |= {key: said[key] for key in ("labels_sha256", "data_sha256")}
    expected["measuring_identity"] = resolved.measuring_identity
    facts = {}
    for epoch in experiment.snapshot_epochs:
        own = {"epoch": str(epoch), "snapshot_sha256": snapshots.get(str(epoch))}
        if epoch in experiment.final_epochs:
            own["volumes"] = "all"
        facts[epoch] = expected | own
    return facts


def read_labels(
    path: Path, resolved: ResolvedExperiment, histories: Iterable[pa.Table]
) -> pd.DataFrame:
    """Read the labels that the runs of an experiment were trained on.

    Returns:
        `sample_id`, `label`, `label_true` and `is_noisy` of the training samples, in the order of
        their ids.

    Raises:
        UserError: the table is missing, damaged, or another than that of the runs.
    """
    columns = ["sample_id", "label", "label_true", "is_noisy", "split"]
    settings = {"settings": canonical_json(resolved.label_settings)}
    try:
        table = read_table(path, columns, settings)
        frame = table.to_pandas()
        frame = frame[frame["split"] == "train"].drop(columns="split").reset_index(drop=True)
        trained_on = (frame[name].to_numpy("int64").tobytes() for name in ("sample_id", "label"))
        found = table_metadata(table.schema) | {"labels_sha256": sha256_bytes(*trained_on)}
        for history in histories:
            said = table_metadata(history.schema)
            expect(path, found, {key: said[key] for key in ("data_sha256", "labels_sha256")})
    except UserError as error:
        raise UserError(f"{error}; delete it, and the workflow makes the labels again") from None
    return frame


def noted(table: pa.Table, key: str) -> str:
    """Return what a table's metadata have for a key."""
    return table_metadata(table.schema)[key]


def read_history(path: Path, resolved: ResolvedExperiment, run: tuple[int, int]) -> pa.Table:
    """Read the history of a run.

    Args:
        path: the file.
        resolved: the experiment.
        run: width and seed.

    Raises:
        UserError: it is missing, damaged, another run's, without the predictions of samples, or its
            snapshots and evaluations are those of other epochs.
    """
    table = read_table(path, expected=resolved.of_run(*run))
    if "fitted" not in table.column_names:
        raise UserError(f"{path} has no column 'fitted': it is of an earlier version")
    experiment = resolved.experiment
    for key, wanted in (
        ("snapshots", experiment.snapshot_epochs),
        ("evaluated", experiment.evaluated_epochs),
    ):
        found = sorted(map(int, json.loads(noted(table, key))))
        if found != wanted:
            raise UserError(f"{path}: its {key} are of the epochs {found}, expected {wanted}")
    return table


def _refuse_mixture(origins: dict[Path, str]) -> None:
    """Refuse tables that were not all measured with the same code, settings, data and labels.

    Those of another origin than the newest are set aside.
    """
    newest = max(origins, key=lambda path: path.stat().st_mtime_ns)
    others = [path for path, origin in origins.items() if origin != origins[newest]]
    if others:
        for path in others:
            set_aside(path)
        raise UserError(
            f"{others[0]} and {newest} were measured with different code, data or labels and "
            f"cannot be one table; {len(others)} tables of another origin than the newest are kept "
            "as *.unusable, and the same command measures them again"
        )
