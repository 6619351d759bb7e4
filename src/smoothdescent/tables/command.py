"""Gather the tables of an experiment's runs into two: the histories and the mean sharpness.

The column `warning` of the histories says of a run how it fails to converge; `stopped` of both
tables, that the weights of an epoch are those at which the run stopped training (`stop_below`);
`diverged`, that a loss has become NaN or infinite: there are no values from there on.

The mean sharpness is taken over all measured training samples, over the clean and over the noisy
ones (equation 7), for each run, checkpoint and volume.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from smoothdescent.config.load import dump_experiment, parse_settings
from smoothdescent.config.schema import Experiment, ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import table_metadata, write_table, write_text
from smoothdescent.provenance import provenance
from smoothdescent.sharpness.normalisation import hessian_norm
from smoothdescent.tables.columns import KEYS, measures_of
from smoothdescent.tables.convergence import unsettled_runs
from smoothdescent.tables.runs import noted, read_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--settings", required=True, help="the experiment and its data set, as JSON")
    add("--folder", required=True, type=Path, help="folder of the runs' folders")
    add("--output-history", required=True, type=Path)
    add("--output-sharpness", required=True, type=Path)
    add("--output-config", required=True, type=Path, help="the same settings as YAML")


def run(args: argparse.Namespace) -> None:
    """Write both tables, and the configuration that they were made with.

    Raises:
        UserError: a run's table is missing, damaged or not of these settings.
    """
    resolved = parse_settings(ResolvedExperiment, args.settings, "--settings")
    experiment = resolved.experiment
    histories, checkpoints = read_runs(args.folder, resolved)
    conditions = [c for table in histories for c in json.loads(noted(table, "conditions"))]
    metadata = {
        "experiment": resolved.name,
        "experiment_config": resolved.contents["experiment"],
        "dataset_config": resolved.contents["dataset"],
        "config_hash": resolved.identity,
        "final_epochs": experiment.final_epochs,
        "hessian_normalisation": experiment.measure.hessian,
        # TF32 is full float32 on a device that lacks it: what was asked for is not what was done.
        "training_devices": sorted({condition["device"] for condition in conditions}),
        "training_precisions": sorted({condition["precision"] for condition in conditions}),
        "training_versions": sorted(
            {f"{name} {c[name]}" for c in conditions for name in ("torch", "numba") if c.get(name)}
        ),
        "training_code": sorted({condition["code"] for condition in conditions}),
        **provenance(),
    }
    history = pd.concat([table.to_pandas() for table in histories], ignore_index=True)
    history["stopped"] = history["learning_rate"] == 0
    history["diverged"] = history["learning_rate"].isna() & (history["epoch"] > 0)
    faults = unsettled_runs(history)
    runs = zip(history["width"], history["seed"], strict=True)
    history["warning"] = [faults.get(run, "") for run in runs]
    parameters = history.groupby("width")["parameters"].first()
    means = pd.concat(
        [checkpoint_means(path, table, experiment) for path, table in checkpoints],
        ignore_index=True,
    )
    # A run may have been measured over all volumes at what was its end at the time.
    means = means[(means["volume"] == 0) | means["epoch"].isin(experiment.final_epochs)]
    means.insert(4, "parameters", means["width"].map(parameters))
    epochs = ["width", "seed", "epoch"]
    means = means.merge(history[[*epochs, "stopped", "diverged"]], how="left", on=epochs)
    write_text(args.output_config, dump_experiment(resolved))
    write_table(args.output_history, history, {"table": "history", **metadata})
    write_table(
        args.output_sharpness,
        means,
        {"table": "sharpness", **metadata},
        [args.output_history, args.output_config],
    )


def checkpoint_means(path: Path, table: pa.Table, experiment: Experiment) -> pd.DataFrame:
    """Average one checkpoint's table over all, the clean and the noisy samples (equation 7).

    Returns:
        One row for each subset that has samples and each volume.
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
    table = table.rename(columns={"hessian_sumsq": "hessian_norm"})
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
