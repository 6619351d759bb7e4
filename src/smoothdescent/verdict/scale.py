"""Statements about absolute sizes: the paper's thresholds (12) and the parameter count (15)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.randomness import numpy_generator
from smoothdescent.tables.threshold import last_evaluations
from smoothdescent.verdict.evidence import HOLDS, Evidence, TooLittleData, compare, decide
from smoothdescent.verdict.peaks import DRAWS, peak, peak_location
from smoothdescent.verdict.reading import by_width, final_measure

PAPER_THRESHOLDS = {"convnet": 15, "resnet18": 18}
PAPER_SCALE = {"train_samples": 49000, "image_size": 32, "epochs": 4000}
FEWER = 0.1  # 'far fewer': by an order of magnitude
SIDES = {"cifar10": 32, "cifar100": 32}  # pixels
TRAIN_IMAGES = {"cifar10": 50000, "cifar100": 50000}


def paper_threshold(experiment: ExperimentTables) -> Evidence:
    """Statement 12: at the paper's scale, the threshold is the paper's."""
    config = experiment.config
    wanted = PAPER_THRESHOLDS.get(config.get("network", ""))
    _require_paper_scale(config)
    if wanted is None:
        raise TooLittleData("the paper gives no threshold for this network")
    widths, values = by_width(last_evaluations(experiment.history), "train_accuracy_all", "history")
    if experiment.threshold is None:
        raise TooLittleData(experiment.threshold_note)
    accuracy = config.get("threshold_accuracy", 0.9995)

    def first(*seeds: np.ndarray) -> float:
        reached = [array.mean() >= accuracy for array in seeds]
        return float(reached.index(True) if True in reached else len(reached))

    runs = [row[np.isfinite(row)] for row in values]
    runs, kept = [r for r in runs if len(r)], [bool(len(r)) for r in runs]
    steps = np.append(widths[kept], 2 * widths[-1])
    value, low, high = float(experiment.threshold), -np.inf, np.inf
    if min(map(len, runs)) > 1:
        interval = stats.bootstrap(
            runs,
            first,
            n_resamples=DRAWS,
            method="percentile",
            vectorized=False,
            rng=numpy_generator(0, "verdict/threshold"),
        ).confidence_interval
        low, high = (float(steps[round(bound)]) for bound in interval)
    # The paper gives one number, read on a grid of widths: a neighbour is as good.
    step = np.diff(widths)[np.abs(widths[:-1] - wanted).argmin()]
    known = np.isfinite(low)
    return Evidence(
        decide(
            known and low - step <= wanted <= high + step,
            known and not low - step <= wanted <= high + step,
        ),
        value,
        low,
        high,
        "w",
        "interpolation threshold",
        f"The threshold is w = {value:g}, the paper's w = {wanted}"
        + (f" (95\u00a0% interval {low:g} to {high:g})." if known else " (one seed only)."),
    )


def _require_paper_scale(config: dict[str, Any]) -> None:
    data = config.get("data", {})
    dataset, needs = data.get("dataset"), []
    if dataset != "cifar10":
        needs.append(f"data cifar10 (here {dataset})")
    size = data.get("image_size") or SIDES.get(dataset, 0)
    if size != PAPER_SCALE["image_size"]:
        needs.append(f"images of 32 pixels (here {size or 'unknown'})")
    samples = training_samples(config) or 0
    if samples < PAPER_SCALE["train_samples"]:
        needs.append(f"49000 training samples (here {samples or 'unknown'})")
    if config.get("epochs", 0) < PAPER_SCALE["epochs"]:
        needs.append(f"4000 epochs (here {config.get('epochs', 'unknown')})")
    if needs:
        raise TooLittleData(f"Needs the paper's full scale: {', '.join(needs)}")


def few_parameters_at_peak(experiment: ExperimentTables) -> Evidence:
    """Statement 15: where the Jacobian norm peaks there are far fewer parameters than n d."""
    samples, side = training_samples(experiment.config), image_side(experiment.config)
    if samples is None or side is None:
        raise TooLittleData("the number of training samples or the images' size is not known")
    table = next((t for t in (experiment.history, experiment.sharpness) if "parameters" in t), None)
    if table is None:
        raise TooLittleData("neither table has a column 'parameters'")
    parameters = table.dropna(subset=["parameters"]).groupby("width")["parameters"].first()
    curve = final_measure(experiment, "jacobian_norm", 0)
    if len(curve.x) < 3:
        raise TooLittleData(f"{len(curve.x)} widths, at least 3 are needed")
    found = peak(curve, None, "Jacobian norm", "times")
    width, low, high = peak_location(curve, None, "jacobian_norm")
    scale = samples * 3 * side**2
    ratio = float(parameters[width]) / scale
    known = np.isfinite(low)
    evidence = compare(
        ratio,
        float(parameters[low]) / scale if known else -np.inf,
        float(parameters[high]) / scale if known else np.inf,
        below=FEWER,
        unit="of n d",
        subject="parameters where the Jacobian norm peaks over n d",
        words=f"the peak at w = {width:g} has {parameters[width]:.0f} parameters, {ratio:.3g} of "
        f"n d = {samples} x {3 * side**2}",
    )
    if found.result != HOLDS:
        # The location means nothing without a peak.
        raise TooLittleData(f"{found.text} {evidence.text}")
    return evidence


def training_samples(config: dict[str, Any]) -> int | None:
    """Return the number of training samples n, or None if the configuration does not tell."""
    data = config.get("data", {})
    if data.get("train_samples"):
        return int(data["train_samples"])
    stored = TRAIN_IMAGES.get(data.get("dataset")) or config.get("dataset", {}).get("train")
    return stored - data.get("validation", 0) if stored else None


def image_side(config: dict[str, Any]) -> int | None:
    """Return the height and width of the images in pixels, or None if it is not told."""
    data = config.get("data", {})
    side = data.get("image_size") or SIDES.get(data.get("dataset"))
    return side or config.get("dataset", {}).get("size")
