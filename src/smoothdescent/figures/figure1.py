"""Figure 1: interpolation by spikes or smoothly, and double descent of the test error.

a: a polynomial of high degree and b: a wide network, both trained by gradient descent through the
same noisy scalar data (`toy_regression`, computed here from a fixed seed). c, d: test and training
error against base width on CIFAR-10 with 20 % label noise and on CIFAR-100, from `history.parquet`.

Shows claims 1 (the test error peaks near the interpolation threshold and falls beyond it), 10
(also on CIFAR-100 without added noise) and 12 (where the threshold lies). A panel whose experiment
is not given is left out. Cost: about three seconds.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.figures.toy_regression import Regression, regression


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    errors = [
        (letter, experiments[name])
        for letter, name in zip("cd", FIGURES["figure1"], strict=True)
        if name in experiments
    ]
    noted = any(experiment.threshold_note for _, experiment in errors)
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.55 if noted else 2.2))
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


def _draw_fit(
    drawing: panels.Drawing, ax: Axes, toy: Regression, fit: np.ndarray, panel: str
) -> None:
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
