"""Made-up tables with the schema and the shape of a study that shows double descent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from smoothdescent.files import fingerprint, write_table
from smoothdescent.tables.experiment import ExperimentTables, read_tables

WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64]
EPOCHS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 400, 600]
STRENGTHS = [2, 4, 6, 8, 10, 12]
SVD_PATHS = {"family": "svd", "directions": 4, "strengths": STRENGTHS}

CONFIGS = {
    "convnet-cifar10-noise20": ("convnet", "cifar10", {"kind": "symmetric", "rate": 0.2}),
    "convnet-cifar100": ("convnet", "cifar100", None),
    "resnet18-cifar10-noise20": ("resnet18", "cifar10", {"kind": "symmetric", "rate": 0.2}),
    "convnet-cifar100-asymmetric": (
        "convnet",
        "cifar100",
        {"kind": "asymmetric", "rate": 0.8, "classes": 20},
    ),
    "mine": ("package.module:Network", "flowers", {"kind": "symmetric", "rate": 0.4}),
}


def _bump(width: np.ndarray, threshold: float, breadth: float = 0.35) -> np.ndarray:
    return np.exp(-0.5 * (np.log(width / threshold) / breadth) ** 2)


def make_tables(
    name: str = "convnet-cifar10-noise20",
    threshold: float = 7.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    widths: list[int] = WIDTHS,
    epochs: list[int] = EPOCHS,
    volumes: int = 7,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a history and a sharpness table whose curves peak at `threshold`.

    Widths from `threshold` on fit every training label at the last epoch; the history has them fit
    from two evaluations earlier on.
    """
    random = np.random.default_rng(0)
    history, sharpness = [], []
    subsets = ["all"] if CONFIGS[name][2] is None else ["all", "clean", "noisy"]
    for width in widths:
        size = np.log2(width / threshold)
        for seed in seeds:
            jitter = 1 + 0.06 * random.standard_normal()
            for epoch in epochs:
                late = epoch in epochs[-3:]
                time = np.log1p(epoch) / np.log1p(max(epochs))
                # Wide networks reach the peak of sharpness earlier and leave it behind.
                fitted = 1 / (1 + np.exp(-4 * (size + 0.5) - 9 * (time - 0.62)))
                if epoch == max(epochs):
                    fitted = 1.0 if width >= threshold else min(fitted, 0.97)
                clean = 0.1 + 0.9 * (0.6 * time + 0.4 * fitted)
                noisy = 0.02 + 0.98 * fitted**2
                if fitted == 1.0:
                    clean = noisy = 1.0
                both = 0.8 * clean + 0.2 * noisy
                peak = 4 * fitted * (1 - 0.75 * fitted) * _bump(np.array(width), threshold, 0.9)
                error = (0.85 - 0.45 * time - 0.05 * np.clip(size + 3, 0, 7)) + 0.16 * peak * jitter
                row = {"experiment": name, "width": width, "seed": seed, "epoch": epoch}
                row["parameters"] = 100 * width * (width + 1)
                evaluation = {
                    "train_accuracy_all": 1.0 if late and width >= threshold else both,
                    "train_accuracy_clean": clean,
                    "train_accuracy_noisy": noisy,
                    "test_error": error,
                }
                if name.endswith("asymmetric"):
                    evaluation["test_error_corrupted"] = np.clip(0.93 + 0.01 * size, 0, 1)
                    evaluation["test_error_unperturbed"] = 0.9 * error
                history.append(row | {"train_accuracy": both} | evaluation)
                if epoch >= 5 and epoch != max(epochs):  # an epoch without an evaluation
                    history.append(row | {"epoch": epoch + 1, "train_accuracy": both})
                for subset in subsets:
                    factor = {"all": 1.0, "clean": 0.7, "noisy": 2.2}[subset]
                    accuracy = {"all": both, "clean": clean, "noisy": noisy}[subset]
                    for volume in range(volumes if epoch == max(epochs) else 1):
                        far = volume / 6
                        sharp = factor * jitter * (peak * (5 + 4 * far) + 0.4 * time * (1 - fitted))
                        loss = -2.3 * np.log(0.1 + 0.9 * accuracy) / 2.3 + 0.4 * far * sharp
                        sharpness.append(
                            row
                            | {
                                "subset": subset,
                                "volume": volume,
                                "samples": 1000,
                                "accuracy": accuracy * (1 - 0.15 * far * (1 + peak)),
                                "crossentropy": loss,
                                "jacobian_norm": sharp + 0.02 * (1 + far),
                                "hessian_norm": 0.15 * sharp**1.3,
                                "path_length": 4.0 * volume,
                            }
                        )
    return pd.DataFrame(history), pd.DataFrame(sharpness)


def make_config(name: str, **changes: object) -> dict[str, object]:
    """Return the part of a resolved configuration that figures read."""
    network, dataset, noise = CONFIGS[name]
    return {
        "network": network,
        "data": {"dataset": dataset},
        "noise": noise,
        "threshold": {"accuracy": 0.9995, "statistic": "median"},
        "measure": {"paths": SVD_PATHS, "hessian": "equation5"},
        "dataset": {"source": "procedural", "size": 16, "train": 2000, "classes": 10},
        **changes,
    }


def make_experiment(name: str = "convnet-cifar10-noise20", **tables: object) -> ExperimentTables:
    """Return an experiment with made-up tables."""
    history, sharpness = make_tables(name, **tables)
    return ExperimentTables(name, history, sharpness, make_config(name))


def write_experiment(
    folder: Path,
    name: str = "convnet-cifar10-noise20",
    settings: dict[str, object] | None = None,
    **tables: object,
) -> Path:
    """Write made-up tables as an experiment's results folder and return it."""
    history, sharpness = make_tables(name, **tables)
    config = make_config(name, **settings or {})
    metadata = {"experiment": name, "experiment_config": config, "config_hash": fingerprint(config)}
    metadata |= {"dataset_config": config.pop("dataset"), "final_epochs": []}
    metadata |= {"hessian_normalisation": "equation5"}
    metadata |= {"num_classes": "10", "image_size": "16"}
    write_tables(folder / name, history, sharpness, metadata)
    read_tables(folder / name)
    return folder / name


def write_tables(
    folder: Path, history: pd.DataFrame, sharpness: pd.DataFrame, metadata: dict[str, object]
) -> None:
    """Write an experiment's two tables as they are gathered, together."""
    path = folder / "history.parquet"
    write_table(path, history, metadata | {"table": "history"})
    metadata = metadata | {"table": "sharpness"}
    write_table(folder / "sharpness.parquet", sharpness, metadata, [path])
