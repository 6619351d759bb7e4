"""At the paper's full scale the threshold is w = 15 (ConvNet) and w = 18 (ResNet18)."""

from typing import Any

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, TooLittleData, result_of
from smoothdescent.verdict.peaks import DRAWS
from smoothdescent.verdict.reading import image_side, training_samples
from smoothdescent.verdict.statement import CONVNET, RESNET, statement

PAPER_THRESHOLDS = {"convnet": 15, "resnet18": 18}
PAPER_SCALE = {"train_samples": 49000, "image_size": 32, "epochs": 4000}


@statement(
    figures={CONVNET: ("figure1",), RESNET: ("figure6",)}, statistic="interpolation threshold"
)
def decide(experiment: ExperimentTables) -> Evidence:
    """At the paper's scale alone: holds if the paper's width lies within the bootstrap interval of
    the threshold, widened by one step of the grid of widths; fails otherwise.
    """
    from scipy import stats

    config = experiment.config
    wanted = PAPER_THRESHOLDS.get(config.get("network", ""))
    _require_paper_scale(config)
    if wanted is None:
        raise TooLittleData("the paper gives no threshold for this network")
    if experiment.threshold is None:
        raise TooLittleData(experiment.threshold_note)
    accuracy, statistic = experiment.fitting
    by_width = experiment.late_accuracies.groupby("width")
    widths, runs = np.array([*by_width.groups]), [group.to_numpy() for _, group in by_width]
    if len(widths) < 2:
        raise TooLittleData("one width, at least 2 are needed")

    def first(*seeds: np.ndarray) -> float:
        fits = [getattr(np, statistic)(array) >= accuracy for array in seeds]
        return float(max((k + 1 for k, fit in enumerate(fits) if not fit), default=0))

    steps = np.append(widths, 2 * widths[-1])
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
        result_of(
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
    size = image_side(config)
    if size != PAPER_SCALE["image_size"]:
        needs.append(f"images of 32 pixels (here {size or 'unknown'})")
    samples = training_samples(config) or 0
    if samples < PAPER_SCALE["train_samples"]:
        needs.append(f"49000 training samples (here {samples or 'unknown'})")
    if config.get("epochs", 0) < PAPER_SCALE["epochs"]:
        needs.append(f"4000 epochs (here {config.get('epochs', 'unknown')})")
    if needs:
        raise TooLittleData(f"Needs the paper's full scale: {', '.join(needs)}")
