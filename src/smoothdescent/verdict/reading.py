"""Curves of an experiment's tables, and what is asked of the tables before a rule can decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables, final_history, final_rows
from smoothdescent.verdict.curves import Curve
from smoothdescent.verdict.evidence import Evidence, TooLittleData, sentence
from smoothdescent.verdict.peaks import peak

if TYPE_CHECKING:
    import pandas as pd

PIXELS = {"cifar10": 32, "cifar100": 32}  # height and width
CLASSES = {"cifar10": 10, "cifar100": 100}
TRAIN_IMAGES = {"cifar10": 50000, "cifar100": 50000}


def subject(column: str, volume: int, subset: str = "all") -> str:
    """Name a measure, the volume and the samples."""
    where = "at the training points" if volume == 0 else f"over volume {volume}"
    return f"{describe(column).text} {where}" + ("" if subset == "all" else f", {subset} samples")


def label(column: str, volume: int, subset: str = "all") -> str:
    """Return the label of an axis for a measure over a volume of some samples."""
    name, unit = sentence(subject(column, volume, subset)), describe(column).unit
    return f"{name} ({unit})" if unit else name


def threshold(experiment: ExperimentTables, sides: bool = True) -> int:
    """Return the interpolation threshold.

    Args:
        experiment: the tables.
        sides: ask for a width below and one above it.

    Raises:
        TooLittleData: there is none, or no width on a side.
    """
    found = experiment.threshold
    if found is None:
        raise TooLittleData(experiment.threshold_note[0].upper() + experiment.threshold_note[1:])
    widths = np.sort(experiment.history["width"].unique())
    below, above = int((widths < found).sum()), int((widths > found).sum())
    if sides and not (below and above):
        raise TooLittleData(
            f"No width lies {'below' if above else 'above'} the threshold w = {found}: {below} "
            f"below and {above} above, at least one each is needed"
        )
    return found


def by_width(frame: pd.DataFrame, column: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return widths [M] and values [M, S] of a table with one row per (width, seed).

    Raises:
        TooLittleData: the column or its values are missing.
    """
    if column not in frame.columns or not np.isfinite(frame[column].astype(float)).any():
        raise TooLittleData(f"{source}.parquet has no values of {column!r}")
    table = frame.pivot(index="width", columns="seed", values=column).astype(float)
    return table.index.to_numpy(), _finite(table.to_numpy())


def final_evaluations(experiment: ExperimentTables, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return widths [M] and each run's mean of a column over its final checkpoints [M, S]."""
    return by_width(final_history(experiment), column, "history")


def final_error(experiment: ExperimentTables, column: str = "test_error") -> Curve:
    """Return an error at the end of training against width, in percentage points."""
    widths, values = final_evaluations(experiment, column)
    about = describe(column)
    return Curve.of(widths, about.scale * values, label=about.label)


def final_values(
    experiment: ExperimentTables, column: str, volume: int, subset: str = "all"
) -> tuple[np.ndarray, np.ndarray]:
    """Return widths [M] and a measure's means over samples [M, S] at the end of training."""
    table = final_rows(experiment, subset)
    table = table[table["volume"] == volume]
    if table.empty:
        raise TooLittleData(f"sharpness.parquet has no {subset} samples at volume {volume}")
    widths, values = by_width(table, column, "sharpness")
    return widths, describe(column).scale * values


def final_measure(
    experiment: ExperimentTables, column: str, volume: int, subset: str = "all"
) -> Curve:
    """Return a measure at the end of training against width, at the samples or over a volume."""
    widths, values = final_values(experiment, column, volume, subset)
    return Curve.of(
        widths,
        values,
        logarithmic=describe(column).norm and positive(values),
        label=label(column, volume, subset),
    )


def error_peak(experiment: ExperimentTables, column: str) -> Evidence:
    """Return the evidence that an error at the end of training peaks near the threshold."""
    near, about = threshold(experiment), describe(column)
    return peak(final_error(experiment, column), near, about.text, about.difference_unit)


def measure_peak(
    experiment: ExperimentTables, column: str, volume: int, subset: str = "all"
) -> Evidence:
    """Return the evidence that a measure at the end of training peaks near the threshold."""
    near, curve = threshold(experiment), final_measure(experiment, column, volume, subset)
    return peak(curve, near, subject(column, volume, subset), describe(column).difference_unit)


def larger_volumes(experiment: ExperimentTables) -> list[int]:
    """Return the volumes k >= 1.

    Raises:
        TooLittleData: only the training points were measured.
    """
    volumes = [volume for volume in experiment.volumes if volume > 0]
    if not volumes:
        raise TooLittleData("sharpness.parquet has no volume but 0, the training points")
    return volumes


def training_samples(config: dict[str, Any]) -> int | None:
    """Return the number of training samples n, or None if the configuration does not tell."""
    data = config.get("data", {})
    if data.get("train_samples"):
        return int(data["train_samples"])
    stored = config.get("dataset", {}).get("train") or TRAIN_IMAGES.get(data.get("dataset"))
    return stored - data.get("validation", 0) if stored else None


def image_side(config: dict[str, Any]) -> int | None:
    """Return the height and width of the images in pixels, or None if it is not told."""
    data, stored = config.get("data", {}), config.get("dataset", {})
    return data.get("image_size") or stored.get("size") or PIXELS.get(data.get("dataset"))


def class_count(config: dict[str, Any]) -> int | None:
    """Return the number of classes, or None if it is not told."""
    stored = config.get("dataset", {}).get("classes")
    return stored or CLASSES.get(config.get("data", {}).get("dataset"))


def positive(values: np.ndarray) -> bool:
    """Return whether all values that there are can have a logarithm."""
    return bool((values[np.isfinite(values)] > 0).all())


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)
