"""Gather the tables of an experiment's runs: the histories, the mean sharpness, and each sample's.

    smoothdescent tables --folder results/demo/convnet-cifar10-noise20/runs \\
        --labels results/demo/convnet-cifar10-noise20/labels.parquet \\
        --output-history history.parquet --output-sharpness sharpness.parquet \\
        --output-samples samples.parquet --output-config config-in-force.yaml \\
        --settings "$(smoothdescent config --experiment convnet-cifar10-noise20 --json)"

The column `warning` of the histories says of a run how it fails to converge; `stopped` of histories
and mean sharpness, that the weights of an epoch are those at which the run stopped training
(`stop_below`); `diverged`, that a loss has become NaN or infinite: there are no values from there
on; `threshold`, the experiment's interpolation threshold.

The mean sharpness is taken over all measured training samples, over the clean and over the noisy
ones (equation 7), for each run, checkpoint and volume. The table of samples has a row for each run,
measured training sample and volume: its labels, since when the run fits it, and the measures at the
end of the training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from smoothdescent.config.load import dump_experiment, parse_settings
from smoothdescent.config.schema import Experiment, ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import table_metadata, table_writer, write_table, write_text
from smoothdescent.provenance import provenance
from smoothdescent.sharpness.normalisation import hessian_norm
from smoothdescent.tables.columns import KEYS, measures_of
from smoothdescent.tables.convergence import unsettled_runs
from smoothdescent.tables.runs import noted, read_checkpoints, read_histories, read_labels
from smoothdescent.tables.samples import fitted_since, run_samples, samples_schema, samples_table
from smoothdescent.tables.threshold import interpolation_threshold, late_accuracies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--settings", required=True, help="the experiment and its data set, as JSON")
    add("--labels", required=True, type=Path, help="the label table")
    add("--folder", required=True, type=Path, help="folder of the runs' folders")
    add("--output-history", required=True, type=Path)
    add("--output-sharpness", required=True, type=Path)
    add("--output-samples", required=True, type=Path)
    add("--output-config", required=True, type=Path, help="the same settings as YAML")


def run(args: argparse.Namespace) -> None:
    """Write the tables, and the configuration that they were made with.

    One run's checkpoints are in memory at a time: the table of samples may be larger than it.

    Raises:
        UserError: a run's table is missing, damaged or not of these settings.
    """
    resolved = parse_settings(ResolvedExperiment, args.settings, "--settings")
    experiment = resolved.experiment
    histories = read_histories(args.folder, resolved)
    labels = read_labels(args.labels, resolved, histories.values())
    history = gathered_history(histories, experiment)
    metadata = gathered_metadata(resolved, histories.values())
    means = []
    schema = samples_schema(experiment)
    with table_writer(args.output_samples, schema, {"table": "samples", **metadata}) as samples:
        for run, checkpoints in read_checkpoints(args.folder, resolved, histories):
            tables = {
                epoch: with_hessian_norm(path, table, experiment)
                for epoch, (path, table) in checkpoints.items()
            }
            means += map(checkpoint_means, tables.values())
            since = fitted_since(histories[run], len(labels))
            final = [tables[epoch] for epoch in experiment.final_epochs]
            rows = run_samples(final, labels.assign(fitted_since=since))
            samples.write_table(samples_table(rows, resolved, run))
    write_text(args.output_config, dump_experiment(resolved))
    write_table(args.output_history, history, {"table": "history", **metadata})
    write_table(
        args.output_sharpness,
        gathered_means(means, history, experiment),
        {"table": "sharpness", **metadata},
        [args.output_history, args.output_samples, args.output_config],
    )


def gathered_metadata(
    resolved: ResolvedExperiment, histories: Iterable[pa.Table]
) -> dict[str, Any]:
    """Return what tables gathered from runs with these histories say of themselves."""
    histories = [*histories]
    conditions = [c for table in histories for c in json.loads(noted(table, "conditions"))]
    return {
        "experiment": resolved.name,
        "experiment_config": resolved.contents["experiment"],
        "dataset_config": resolved.contents["dataset"],
        # Which the configuration does not tell of images of the user's.
        "num_classes": noted(histories[0], "num_classes"),
        "image_size": noted(histories[0], "image_size"),
        "config_hash": resolved.identity,
        "final_epochs": resolved.experiment.final_epochs,
        "hessian_normalisation": resolved.experiment.measure.hessian,
        # TF32 is full float32 on a device that lacks it: what was asked for is not what was done.
        "training_devices": sorted({condition["device"] for condition in conditions}),
        "training_precisions": sorted({condition["precision"] for condition in conditions}),
        "training_versions": sorted(
            {f"{name} {c[name]}" for c in conditions for name in ("torch", "numba") if c.get(name)}
        ),
        "training_code": sorted({condition["code"] for condition in conditions}),
        **provenance(),
    }


def gathered_history(
    histories: dict[tuple[int, int], pa.Table], experiment: Experiment
) -> pd.DataFrame:
    """Return the histories of all runs as one table, with what they say of runs and threshold."""
    tables = [table.drop_columns("fitted").to_pandas() for table in histories.values()]
    history = pd.concat(tables, ignore_index=True)
    history["stopped"] = history["learning_rate"] == 0
    history["diverged"] = history["learning_rate"].isna() & (history["epoch"] > 0)
    faults = unsettled_runs(history)
    runs = zip(history["width"], history["seed"], strict=True)
    history["warning"] = [faults.get(run, "") for run in runs]
    fitting = experiment.threshold
    late = late_accuracies(history, experiment.final_epochs, fitting.statistic)
    threshold = interpolation_threshold(late, fitting.accuracy, fitting.statistic)
    history["threshold"] = pd.array([threshold] * len(history), dtype="Int64")
    return history


def gathered_means(
    means: Sequence[pd.DataFrame], history: pd.DataFrame, experiment: Experiment
) -> pd.DataFrame:
    """Return the means of all checkpoints (`checkpoint_means`), with facts of their runs."""
    table = pd.concat(means, ignore_index=True)
    # A run may have been measured over all volumes at what was its end at the time.
    table = table[(table["volume"] == 0) | table["epoch"].isin(experiment.final_epochs)]
    parameters = history.groupby("width")["parameters"].first()
    table.insert(4, "parameters", table["width"].map(parameters))
    epochs = ["width", "seed", "epoch"]
    facts = history[[*epochs, "stopped", "diverged", "threshold"]]
    return table.merge(facts, how="left", on=epochs)


def with_hessian_norm(path: Path, table: pa.Table, experiment: Experiment) -> pd.DataFrame:
    """Return a checkpoint's table with the Hessian norm in place of its sum of squares.

    Raises:
        UserError: a measure is not finite, although the run has not diverged.
    """
    diverged = "diverged" in table_metadata(table.schema)
    table = table.to_pandas()
    for measure in [] if diverged else measures_of(table):
        odd = table[~np.isfinite(table[measure])]
        if len(odd):
            # A mean would pass over NaN in silence.
            raise UserError(
                f"{path}: {measure} is {odd[measure].iloc[0]} for sample_id "
                f"{odd['sample_id'].iloc[0]}, expected a finite number; the network's outputs "
                "overflow at this checkpoint"
            )
    if "hessian_sumsq" in table:
        table["hessian_sumsq"] = hessian_norm(
            table["hessian_sumsq"],
            jitters=experiment.measure.jitters,
            step_size=experiment.measure.step_size,
            normalisation=experiment.measure.hessian,
        )
    return table.rename(columns={"hessian_sumsq": "hessian_norm"})


def checkpoint_means(table: pd.DataFrame) -> pd.DataFrame:
    """Average a checkpoint's table over all, the clean and the noisy samples (equation 7).

    Returns:
        One row for each subset that has samples and each volume.
    """
    subsets = {"all": table, "clean": table[~table["is_noisy"]], "noisy": table[table["is_noisy"]]}
    return pd.concat(
        [_means(rows, subset) for subset, rows in subsets.items() if len(rows)], ignore_index=True
    )


def _means(rows: pd.DataFrame, subset: str) -> pd.DataFrame:
    groups = rows.groupby([*KEYS, "volume"], observed=True)
    means = groups[[*measures_of(rows), "path_length"]].mean()
    means.insert(0, "samples", groups.size())
    means = means.reset_index()
    means.insert(4, "subset", subset)
    return means
