"""Partial tables: those of the runs of an experiment that have ended, while others are to come.

They say that they are partial, and are refused where the tables of all runs are expected. The files
of runs are read, and nothing else: one that cannot be used stays where it is, and its run is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from smoothdescent.config.load import dump_experiment
from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import read_table, write_table, write_text
from smoothdescent.layout import history_path, run_name, sharpness_path
from smoothdescent.tables.command import (
    checkpoint_means,
    gathered_history,
    gathered_means,
    gathered_metadata,
    with_hessian_norm,
)
from smoothdescent.tables.experiment import SUMMARIES, table_kind
from smoothdescent.tables.runs import checkpoint_facts, noted, read_history, runs_of


@dataclass(frozen=True)
class EndedRun:
    """What tables are gathered from of a run that is trained, and whose checkpoints are measured.

    `means` are those of each checkpoint (`checkpoint_means`); `origins` say what each was measured
    with, by file, after the time at which it was written.
    """

    history: pa.Table
    means: list[pd.DataFrame]
    origins: dict[Path, tuple[int, str]]


def write_partial(
    ended: dict[tuple[int, int], EndedRun], resolved: ResolvedExperiment, output: Path
) -> list[Path]:
    """Write the tables of the runs that have ended, and the configuration of the experiment.

    Args:
        ended: at least one (see `ended_runs`).
        resolved: the experiment.
        output: the folder to write into.

    Returns:
        The two tables' files.
    """
    histories = {run: found.history for run, found in ended.items()}
    history = gathered_history(histories, resolved.experiment)
    means = [table for found in ended.values() for table in found.means]
    metadata = {
        **gathered_metadata(resolved, histories.values()),
        "runs": count_text(ended, resolved),
    }
    paths = {table: output / f"{table}.parquet" for table in SUMMARIES}
    kinds = {table: {"table": table_kind(table, partial=True), **metadata} for table in paths}
    write_text(output / "config.yaml", dump_experiment(resolved))
    write_table(paths["history"], history, kinds["history"])
    write_table(
        paths["sharpness"],
        gathered_means(means, history, resolved.experiment),
        kinds["sharpness"],
        [paths["history"], output / "config.yaml"],
    )
    return [*paths.values()]


def count_text(ended: dict[tuple[int, int], EndedRun], resolved: ResolvedExperiment) -> str:
    """Return how many of an experiment's runs have ended, such as '14 of 24 runs'."""
    return f"{len(ended)} of {len(runs_of(resolved))} runs"


def ended_runs(
    folder: Path, resolved: ResolvedExperiment
) -> tuple[dict[tuple[int, int], EndedRun], list[str]]:
    """Read the runs that are trained and measured with the settings in force.

    Args:
        folder: of the runs' folders.
        resolved: the experiment, which says what runs there are.

    Returns:
        The runs by (width, seed); and a sentence about each run whose files are all there and not
        all what they should be.
    """
    ended, faults = {}, []
    for run in runs_of(resolved):
        try:
            found = _read_run(folder / run_name(*run), resolved, run)
        # The latter: a file cannot be read now, or was renamed between two looks.
        except (UserError, OSError) as error:
            faults.append(f"{run_name(*run)} is left out: {error}")
        else:
            if found is not None:
                ended[run] = found
    return _of_one_origin(ended, faults)


def _read_run(folder: Path, resolved: ResolvedExperiment, run: tuple[int, int]) -> EndedRun | None:
    """Return a run that has ended; None if a file is still to be made.

    Raises:
        UserError: a file is damaged, or of other settings.
    """
    experiment = resolved.experiment
    paths = {epoch: sharpness_path(folder, epoch) for epoch in experiment.snapshot_epochs}
    if not all(path.exists() for path in (history_path(folder), *paths.values())):
        return None
    history = read_history(history_path(folder), resolved, run)
    means, origins = [], {}
    for epoch, expected in checkpoint_facts(resolved, run, history).items():
        written = paths[epoch].stat().st_mtime_ns
        table = read_table(paths[epoch], expected=expected)
        origins[paths[epoch]] = written, noted(table, "measured_with")
        means.append(checkpoint_means(with_hessian_norm(paths[epoch], table, experiment)))
    return EndedRun(history, means, origins)


def _of_one_origin(
    ended: dict[tuple[int, int], EndedRun], faults: list[str]
) -> tuple[dict[tuple[int, int], EndedRun], list[str]]:
    """Leave out the runs with a table that was measured otherwise than the newest of all."""
    origins = {path: origin for run in ended.values() for path, origin in run.origins.items()}
    if not origins:
        return ended, faults
    newest = max(origins, key=lambda path: origins[path][0])
    kept, faults = {}, [*faults]
    for run, found in ended.items():
        others = [path for path in found.origins if origins[path][1] != origins[newest][1]]
        if others:
            faults.append(
                f"{run_name(*run)} is left out: {others[0]} and {newest} were measured with "
                "different code, data or labels"
            )
        else:
            kept[run] = found
    return kept, faults
