"""How often the verdict's rules say holds, fails and undecided of studies whose truth is known.

The first table is about single curves, decided by the rule for peaks near a threshold of 8. The
noise of a width is a standard deviation between seeds, as a part of the value; 'unequal' noise is
three times as large at one width, or up to three times as large around the threshold, or beyond
it, with 10 and 30 %: of these cases, the one with the most false findings is printed. The mean over
seven late snapshots has about half the noise of one snapshot.

The second table is about whole studies, decided by every statement but 12, which is for one scale
alone. Norms and cross-entropies have the noise stated; 20 % of it stands for one percentage point
of errors and accuracies. 'shared' noise has a part that a seed has at all widths.

python benchmarks/verdict.py
python benchmarks/verdict.py --curves 200 --studies 10
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve
from smoothdescent.verdict.evidence import FAILS, HOLDS, RESULTS
from smoothdescent.verdict.findings import decide_one
from smoothdescent.verdict.peaks import peak
from smoothdescent.verdict.statements import STATEMENTS

WIDTHS = np.array([1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32])
THRESHOLD = 8
SEEDS = (3, 5, 10)
NOISES = (0.10, 0.15, 0.20, 0.30)
EPOCHS = np.array([1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024])


def bump(at: float, breadth: float = 0.5) -> np.ndarray:
    """Return a peak of height one over WIDTHS, broad in the logarithm."""
    return np.exp(-0.5 * (np.log(WIDTHS / at) / breadth) ** 2)


# Logarithms of curves over WIDTHS, and what must not be said of each.
CURVES: dict[str, tuple[np.ndarray, str]] = {
    **{f"peak, {times} times": (np.log(times) * bump(8), FAILS) for times in (1.25, 1.5, 2, 3)},
    "peak, 2 times, then 1/16": (
        np.log(2) * np.where(WIDTHS <= 8, np.log2(WIDTHS) / 3, 1 - 4 * np.log2(WIDTHS / 8)), FAILS,
    ),
    "flat": (0.0 * WIDTHS, HOLDS),
    "plateau, 2 times": (np.log(2) * (WIDTHS >= 5), HOLDS),
    "flat, then 1/20": (-3.0 * (WIDTHS > 16), HOLDS),
    "falling to 1/10": (-np.log(10) * np.log2(WIDTHS) / 5, HOLDS),
    "rising to 3": (np.log(3) * np.log2(WIDTHS) / 5, HOLDS),
    "bowl, 1/2": (-np.log(2) * bump(8), HOLDS),
    "peak at w = 2, 3 times": (np.log(3) * bump(2), HOLDS),
    "two peaks, 2 and 1.5 times": (
        np.log(2) * bump(2, 0.3) + np.log(1.5) * bump(8, 0.3), FAILS,
    ),
}  # fmt: skip
EQUAL = np.ones(len(WIDTHS))
UNEQUAL = [
    *(np.where(width == WIDTHS, 3.0, 1.0) for width in (1, 5, 8, 32)),
    1 + 2 * bump(8),
    np.where(WIDTHS > 8, 3.0, 1.0),
]


def main() -> None:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--curves", type=int, default=1000, help="of each kind (default: %(default)s)")
    add("--studies", type=int, default=16, help="of each kind (default: %(default)s)")
    args = parser.parse_args()
    start = time.perf_counter()
    report_curves(args.curves)
    report_studies(args.studies)
    print(f"\n{time.perf_counter() - start:.0f} s")


def report_curves(count: int) -> None:
    """Print the table of the rule for peaks: holds / fails in per cent of the curves."""
    print("| true curve | seeds |", " | ".join(f"{n:.0%}" for n in NOISES), "| unequal, false |")
    print("| --- " * (len(NOISES) + 3) + "|")
    for name, (logs, false) in CURVES.items():
        for seeds in SEEDS:
            told = [shares(logs, noise * EQUAL, seeds, count) for noise in NOISES]
            cells = [f"{100 * found[HOLDS]:.0f} / {100 * found[FAILS]:.0f}" for found in told]
            worst = max(
                shares(logs, noise * scale, seeds, count)[false]
                for scale in UNEQUAL
                for noise in (NOISES[0], NOISES[-1])
            )
            print(f"| {name} | {seeds} | {' | '.join(cells)} | {100 * worst:.1f} |", flush=True)


def shares(logs: np.ndarray, noise: np.ndarray, seeds: int, count: int) -> dict[str, float]:
    """Return the part of simulated curves with each result.

    Args:
        logs, noise: logarithm of the true curve, and its standard deviation between seeds [M].
        seeds, count: seeds of a curve, and how many curves.
    """
    generator = np.random.default_rng(seeds)
    values = logs[:, None] + noise[:, None] * generator.standard_normal((count, len(logs), seeds))
    found = Counter(
        peak(Curve.of(WIDTHS, np.exp(curve), logarithmic=True), THRESHOLD, "it", "").result
        for curve in values
    )
    return {result: found[result] / count for result in RESULTS}


def report_studies(count: int) -> None:
    """Print the table of the statements: holds / fails in per cent of the studies."""
    print("\n| truth | seeds | noise |", " | ".join(map(str, DECIDED)), "|")
    print("| --- " * (len(DECIDED) + 3) + "|")
    for truth, seeds, shared, noise in STUDIES:
        found = study_shares(truth, seeds, shared, noise, count)
        cells = [
            f"{100 * found[n, HOLDS] / count:.0f} / {100 * found[n, FAILS] / count:.0f}"
            for n in DECIDED
        ]
        noise_text = f"{noise:.0%}{', shared' if shared else ''}"
        print(f"| {truth} | {seeds} | {noise_text} | {' | '.join(cells)} |", flush=True)


# Truth, seeds, whether the noise is shared, and the noise.
STUDIES = [
    *(("paper", 3, 0, 0.1), ("paper", 5, 0, 0.1), ("paper", 5, 0, 0.2), ("flat", 3, 0, 0.2)),
    *(("flat", 5, 1, 0.2), ("monotone", 5, 0, 0.1), ("monotone", 3, 0, 0.2)),
    *(("paper", 5, 1, 0.2), ("paper", 3, 0, 0.2), ("monotone", 5, 1, 0.2)),
]
DECIDED = [number for number in STATEMENTS if number != 12]


def study_shares(truth: str, seeds: int, shared: int, noise: float, count: int) -> Counter:
    """Return how many simulated studies each statement gives each result."""
    generator, found = np.random.default_rng(seeds), Counter()
    for _ in range(count):
        study = simulate(TRUTHS[truth], seeds, noise, shared, generator)
        for number in DECIDED:
            name = next(iter(STATEMENTS[number].figures))
            found[number, decide_one(number, name, study).result] += 1
    return found


# True values over WIDTHS of a study: its columns as functions of volume and subset.
Values = Callable[[int, str], np.ndarray]


def _paper(column: str, volume: int, subset: str) -> np.ndarray:
    """Everything as the paper says: norms peak 3 times as high as their foot."""
    noisy = 2.0 if subset == "noisy" else 1.0
    past = WIDTHS >= THRESHOLD
    if column == "crossentropy" and volume == 0:
        return np.where(past, 0.004 * THRESHOLD / WIDTHS, 2.0 / (1 + (WIDTHS / 2) ** 4) + 0.02)
    if column == "accuracy":
        fitted = np.where(past, 1.0, 0.9 * WIDTHS / THRESHOLD)
        low = np.where(WIDTHS < THRESHOLD / 2, 0.02, 0.2 * fitted)
        fitted = np.where(past, 1.0, low) if subset == "noisy" else fitted
        return fitted * (1 - 0.08 * volume / (1 + 0.2 * np.log2(WIDTHS)))
    if column == "test_error":
        return 0.6 - 0.03 * np.log2(WIDTHS) + 0.12 * bump(THRESHOLD)
    if column == "test_error_corrupted":
        return 0.9 - 0.03 * np.log2(WIDTHS)
    return noisy * (1 + 0.4 * volume) * np.exp(np.log(3) * bump(THRESHOLD))


def _monotone(column: str, volume: int, subset: str) -> np.ndarray:
    """Nothing as the paper says: sharpness falls with width, noisy samples are fitted too."""
    falling = 3.0 * WIDTHS**-0.6
    if column == "accuracy":
        fitted = np.minimum(0.5 + WIDTHS / (2 * THRESHOLD), 1.0)
        return fitted - 0.02 * volume * np.log2(WIDTHS)
    if column == "test_error_corrupted":
        return _paper("test_error", 0, "all")
    if column.startswith("test_error"):
        return 0.6 - 0.05 * np.log2(WIDTHS)
    return falling if column != "jacobian_norm" or volume else 1 / falling


def _flat(column: str, volume: int, subset: str) -> np.ndarray:
    """Nothing depends on the width."""
    return np.full(len(WIDTHS), {"accuracy": 0.6}.get(column, 0.5))


# Curves, and the height of the peak over epochs past and below the threshold, as a logarithm.
TRUTHS = {
    "paper": (_paper, (np.log(2), 0.0)),
    "monotone": (_monotone, (0.0, 0.0)),
    "flat": (_flat, (0.0, 0.0)),
}
CONFIG = {
    "network": "convnet",
    "data": {"dataset": "cifar10", "validation": 0},
    "dataset": {"classes": 10},
}


def simulate(
    truth: tuple, seeds: int, noise: float, shared: int, generator: np.random.Generator
) -> ExperimentTables:
    """Return the tables of a study.

    Args:
        truth: an entry of TRUTHS.
        seeds, noise: runs of each width, and the standard deviation of a logarithm between them.
        shared: half of the variance is a seed's at all widths.
        generator: of the noise; an evaluation adds a quarter of `noise` to every run.
    """
    curves, heights = truth
    grid = np.meshgrid(WIDTHS, np.arange(seeds), indexing="ij")
    runs = {"experiment": "e", "width": grid[0].ravel(), "seed": grid[1].ravel()}

    def draw(points: float) -> np.ndarray:
        z = generator.standard_normal(grid[0].shape)
        if shared:
            z = np.sqrt(0.5) * (z + generator.standard_normal(seeds))
        return points * noise * z

    def course(column: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield epochs and logarithms of a factor on a run's last value [M, S]."""
        past = np.where(WIDTHS >= THRESHOLD, *heights)[:, None]
        time_ = np.log(EPOCHS) / np.log(EPOCHS[-1])
        own = 0.65 + 0.03 * generator.standard_normal(grid[0].shape)
        for epoch, t in zip(EPOCHS, time_, strict=True):
            factor = 0.5 * (1 - t) + past * np.exp(-0.5 * ((t - own) / 0.08) ** 2)
            small = 0.05 if column == "test_error" else 0.25
            yield epoch, factor + small * noise * generator.standard_normal(grid[0].shape)

    history = {column: draw(0.05) for column in ("test_error", "test_error_corrupted")}
    rows = []
    for epoch, factor in course("test_error"):
        errors = {
            column: (curves(column, 0, "all")[:, None] + own) * np.exp(factor)
            for column, own in history.items()
        }
        errors["test_error_unperturbed"] = errors["test_error"]
        rows.append(_rows(runs, epoch, errors))
    fitted = np.where(runs["width"] >= THRESHOLD, 1.0, 0.9)
    table = pd.concat(rows).assign(train_accuracy_all=np.tile(fitted, len(EPOCHS)))
    table["parameters"] = 100 * table["width"] ** 2
    rows = []
    last = {column: draw(1.0) for column in ("crossentropy", "jacobian_norm", "hessian_norm")}
    courses = {column: dict(course(column)) for column in ("crossentropy", "jacobian_norm")}
    accuracy = draw(0.05)
    for subset in ("all", "clean", "noisy"):
        for volume in range(3):
            for epoch in EPOCHS if (subset, volume) == ("all", 0) else EPOCHS[-1:]:
                values = {
                    column: curves(column, volume, subset)[:, None]
                    * np.exp(own + (courses[column][epoch] if column in courses else 0))
                    for column, own in last.items()
                }
                values["accuracy"] = np.clip(
                    curves("accuracy", volume, subset)[:, None]
                    + accuracy * (WIDTHS < THRESHOLD)[:, None] + 0.1 * accuracy, 0, 1,
                )  # fmt: skip
                rows.append(_rows(runs, epoch, values).assign(subset=subset, volume=volume))
    sharpness = pd.concat(rows).assign(samples=100_000)
    return ExperimentTables("e", table, sharpness, CONFIG)


def _rows(runs: dict, epoch: int, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return one row for each run, from values [M, S]."""
    return pd.DataFrame(runs | {"epoch": epoch} | {k: v.ravel() for k, v in values.items()})


if __name__ == "__main__":
    main()
