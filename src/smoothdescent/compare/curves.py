"""The curves of one experiment in several studies over each other, one colour per study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from smoothdescent.figures import panels, style
from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables, final_errors, final_volumes

MOST_IN_THREES = 6  # panels; of more, four are in a row


@dataclass(frozen=True)
class _Panel:
    """What a panel shows: a measure around samples of a subset over a volume, or an error."""

    measure: str
    subset: str = ""
    largest: bool = False

    def rows(self, experiment: ExperimentTables) -> pd.DataFrame:
        """Return an experiment's curve: `over_seeds` by `width`."""
        if not self.subset:
            return final_errors(experiment, self.measure)
        data = final_volumes(experiment, self.measure, self.subset)
        return data[data["volume"] == self.volume(experiment)]

    def volume(self, experiment: ExperimentTables) -> int:
        return experiment.volumes[-1] if self.largest else 0

    def title(self, experiments: Mapping[str, ExperimentTables]) -> str:
        title = describe(self.measure).title
        if not self.subset:
            return title
        volumes = {self.volume(experiment) for experiment in experiments.values()}
        volume = f"volume {volumes.pop()}" if len(volumes) == 1 else "largest volume"
        samples = "" if self.subset == "all" else f"{self.subset}, "
        return f"{title}\n{samples}{volume}"


def draw(studies: Mapping[str, ExperimentTables]) -> Drawing:
    """Draw errors, accuracy, cross-entropy and Jacobian norm over width at the end of training.

    Args:
        studies: the tables of one experiment by study; at most as many as `style.STUDIES`.
    """
    shown = _panels(studies)
    columns = 3 if len(shown) <= MOST_IN_THREES else 4
    rows = -(-len(shown) // columns)
    with style.look():
        drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 1.9 * rows + 0.3))
        grid = drawing.figure.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[len(shown) :]:
            ax.set_axis_off()
        for ax, panel in zip(grid.flat, shown, strict=False):
            _draw(drawing, ax, panel, studies)
        drawing.figure.legend(
            handles=[
                Line2D([], [], color=colour, marker="o", label=_legend(name, experiment))
                for (name, experiment), colour in zip(studies.items(), style.STUDIES, strict=False)
            ],
            loc="outside lower center",
            ncols=min(len(studies), 3),
        )
    return drawing


def _panels(studies: Mapping[str, ExperimentTables]) -> list[_Panel]:
    noisy = any("noisy" in set(e.sharpness["subset"]) for e in studies.values())
    volumes = [False, True] if any(e.volumes[-1] for e in studies.values()) else [False]
    return [
        _Panel("test_error"),
        _Panel("accuracy", "all"),
        *(_Panel("crossentropy", "all", largest) for largest in volumes),
        *(
            _Panel("jacobian_norm", subset, largest)
            for largest in volumes
            for subset in (("clean", "noisy") if noisy else ("all",))
        ),
    ]


def _draw(
    drawing: Drawing, ax: Axes, panel: _Panel, studies: Mapping[str, ExperimentTables]
) -> None:
    about, curves = describe(panel.measure), []
    title = panel.title(studies)
    name = " ".join(title.split())
    for (study, experiment), colour in zip(studies.items(), style.STUDIES, strict=False):
        data = panel.rows(experiment)
        panels.curve(ax, data, colour, experiment.bands)
        if experiment.threshold is not None:
            ax.axvline(experiment.threshold, color=colour, linestyle=":", linewidth=1.0)
        drawing.record(
            name, study, experiment.name,
            x=data["width"], y=data["mean"], y_std=data["std"],
            y_within=data["within"], seeds=data["seeds"],
        )  # fmt: skip
        curves.append(data["mean"])
    drawing.label(name, x="base width w", y=about.label)
    ax.set_title(title, pad=4)
    ax.set_xlabel(panels.WIDTH_LABEL)
    ax.set_ylabel(about.unit)
    widths = [experiment.history["width"] for experiment in studies.values()]
    style.width_axis(ax, pd.concat(widths).to_numpy())
    _scale(ax, panel.measure, pd.concat(curves).dropna())


def _scale(ax: Axes, measure: str, means: pd.Series) -> None:
    """Choose the y axis: a norm's is logarithmic, others' begin at zero, but that of an error."""
    if means.empty:
        ax.set_yticks([])
        panels.no_data(ax)
    elif describe(measure).norm:
        ax.set_yscale("log")
        # A band may reach below zero, which has no place on the axis.
        if (means > 0).any():
            ax.set_ylim(bottom=means[means > 0].min() / 2)
        low, high = ax.get_ylim()
        if high < 100 * low:
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif measure == "test_error":
        panels.set_height(ax, max(float(np.ptp(ax.get_ylim())), panels.LEAST_SPAN))
    elif measure == "accuracy":
        ax.set_ylim(0, 103)
    else:
        ax.set_ylim(bottom=0)


def _legend(study: str, experiment: ExperimentTables) -> str:
    if experiment.threshold is None:
        return f"{study} (no threshold)"
    return f"{study} (threshold $w$ = {experiment.threshold})"
