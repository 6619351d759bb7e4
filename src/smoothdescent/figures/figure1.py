"""a: a polynomial of high degree fits noisy samples by spikes; b: a wide network passes through the
same samples smoothly. c, d: test error against base width at the end of training, with the training
error on the right axis. {END} See whether the test error has a local maximum near the interpolation
threshold (dotted) and falls beyond it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smoothdescent.figures.drawing import Drawing
from smoothdescent.figures.toy_regression import Regression, regression
from smoothdescent.tables.experiment import ExperimentTables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXPERIMENTS = ("convnet-cifar10-noise20", "convnet-cifar100")
HEADING = "Spikes or smoothness, and double descent"
QUOTATION = "contrary to intuition, deep networks smoothly interpolate both clean and noisy data"


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw a and b from a fixed seed, c and d from `history.parquet`: about three seconds."""
    from smoothdescent.figures import panels, style

    errors = [
        (letter, experiments[name])
        for letter, name in zip("cd", EXPERIMENTS, strict=True)
        if name in experiments
    ]
    noted = any(experiment.threshold_note for _, experiment in errors)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.55 if noted else 2.2))
    axes = list(drawing.figure.subplots(1, 2 + len(errors)))
    toy = regression()
    _draw_fit(drawing, axes[0], toy, toy.polynomial, "a")
    _draw_fit(drawing, axes[1], toy, toy.network, "b")
    axes[0].set_title("polynomial,\ndegree 1,000", fontsize=7)
    axes[1].set_title("wide network", fontsize=7)
    for ax, (letter, experiment) in zip(axes[2:], errors, strict=True):
        panels.errors_over_width(drawing, ax, experiment, ("test_error", "train_error"), letter)
        panels.panel_title(ax, experiment, columns=28)
    for ax, letter in zip(axes, ["a", "b", *(letter for letter, _ in errors)], strict=True):
        style.panel_letter(ax, letter)
    drawing.figure.legend(
        handles=axes[0].get_legend_handles_labels()[0], loc="outside lower left", ncols=4
    )
    if errors:
        handles = axes[2].get_legend_handles_labels()[0]
        if any(experiment.threshold is not None for _, experiment in errors):
            handles.append(style.threshold_handle())
        drawing.figure.legend(handles=handles, loc="outside lower right", ncols=3)
    return drawing


def _draw_fit(drawing: Drawing, ax: Axes, toy: Regression, fit: np.ndarray, panel: str) -> None:
    from smoothdescent.figures import style

    x, y, is_noisy = toy.samples.x, toy.samples.y, toy.samples.is_noisy
    ax.plot(toy.grid, toy.truth, color="0.25", linestyle="--", linewidth=0.8, label="truth")
    ax.plot(toy.grid, fit, color=style.BLUE, label="fit")
    marks = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0.4}
    marks["markeredgecolor"] = "white"
    ax.plot(x[~is_noisy], y[~is_noisy], color="0.25", label="clean", zorder=3, **marks)
    ax.plot(x[is_noisy], y[is_noisy], color=style.VERMILLION, label="noisy", zorder=3, **marks)
    ax.set_xlabel("input $x$")
    ax.set_ylabel("output $y$")
    ax.set_ylim(-1.7, 2.0)
    drawing.record(panel, "truth", None, x=toy.grid, y=toy.truth)
    drawing.record(panel, "fit", None, x=toy.grid, y=fit)
    drawing.record(panel, "clean", None, x=x[~is_noisy], y=y[~is_noisy])
    drawing.record(panel, "noisy", None, x=x[is_noisy], y=y[is_noisy])
    drawing.label(panel, x="input x", y="output y")
