"""Gather the tables of an experiment's runs into two: the histories and the mean sharpness.

The mean sharpness is taken over all measured training samples, over the clean and over the noisy
ones (equation 7), for each run, checkpoint and volume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from smoothdescent.config.load import read_experiment
from smoothdescent.config.schema import Experiment
from smoothdescent.errors import UserError
from smoothdescent.files import read_table, write_table
from smoothdescent.provenance import provenance
from smoothdescent.runs import history_path, run_name, sharpness_path
from smoothdescent.sharpness.normalisation import hessian_norm
from smoothdescent.tables.columns import KEYS, measures_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--config", required=True, help="the experiment's resolved configuration")
    parser.add_argument("--folder", required=True, type=Path, help="the experiment's folder")
    parser.add_argument("--output-history", required=True, type=Path)
    parser.add_argument("--output-sharpness", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Write both tables.

    Raises:
        UserError: a run's table is missing or damaged.
    """
    study, _, experiment = read_experiment(args.config)
    runs = [
        args.folder / "runs" / run_name(width, seed)
        for width in experiment.widths
        for seed in experiment.seeds
    ]
    histories = [read_table(history_path(run)) for run in runs]
    metadata = {
        "experiment_config": experiment.model_dump(mode="json"),
        "dataset_config": study.datasets[experiment.data.dataset].model_dump(mode="json"),
        "config_hash": study.identity(),
        "hessian_normalisation": experiment.measure.hessian,
        # TF32 is full float32 on a device that lacks it: what was asked for is not what was done.
        "training_devices": _noted(histories, "device"),
        "training_precisions": _noted(histories, "precision"),
        **provenance(),
    }
    history = pd.concat([table.to_pandas() for table in histories], ignore_index=True)
    # A run may have been trained farther than is asked for now.
    history = history[history["epoch"] <= experiment.epochs]
    write_table(args.output_history, history, metadata)
    parameters = history.groupby("width")["parameters"].first()
    tables = [path for run in runs for path in checkpoint_tables(run, experiment)]
    means = pd.concat([checkpoint_means(path, experiment) for path in tables], ignore_index=True)
    # ... and measured over volumes at what was its end then.
    means = means[(means["volume"] == 0) | (means["epoch"] == experiment.epochs)]
    means.insert(4, "parameters", means["width"].map(parameters))
    write_table(args.output_sharpness, means, metadata)


def _noted(tables: list[pa.Table], key: str) -> list[str]:
    """Return the different values that the tables' metadata have for a key."""
    return sorted({table.schema.metadata[key.encode()].decode() for table in tables})


def checkpoint_tables(run: Path, experiment: Experiment) -> list[Path]:
    """Return the tables of the checkpoints in one run's folder.

    Raises:
        UserError: one is missing.
    """
    paths = [sharpness_path(run, epoch) for epoch in experiment.snapshot_epochs(experiment.epochs)]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; expected the table of a measured checkpoint")
    return paths


def checkpoint_means(path: Path, experiment: Experiment) -> pd.DataFrame:
    """Average one checkpoint's table over all, the clean and the noisy samples (equation 7).

    Returns:
        One row for each subset that has samples and each volume.
    """
    table = read_table(path).to_pandas()
    for measure in measures_of(table):
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
