"""The numbers of an experiment that the page shows, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from plotly.colors import sample_colorscale

from smoothdescent.tables.columns import ERRORS, HISTORY_COLUMNS, describe, measures_of
from smoothdescent.tables.convergence import convergence_note
from smoothdescent.tables.experiment import (
    ExperimentTables,
    final_errors,
    final_volumes,
    over_seeds,
)

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 4  # digits that the page holds of a number
BLUE = "#0072B2"  # of the training points, as in the figures


def content(experiment: ExperimentTables) -> dict[str, Any]:
    """Return an experiment's curves, with bands of one standard deviation over seeds.

    Returns:
        `final`: curves over width at the end of training, one for each measure, subset and volume;
        `courses`: curves over epochs at the training points, one for each measure, subset and
        width; `runs`: the evaluations of each run; and what there is to choose from.
    """
    history = experiment.history.dropna(subset=["train_accuracy_all"])
    history = history.assign(train_error=1 - history["train_accuracy_all"])
    errors = [name for name in ERRORS if name in history and history[name].notna().any()]
    measures = measures_of(experiment.sharpness)
    widths = sorted(int(width) for width in experiment.history["width"].unique())
    quantity, strengths = experiment.volume_strengths
    # A run that has diverged has no evaluations from there on: the whole history tells.
    notes = [experiment.threshold_note, convergence_note(experiment.history)]
    return {
        "name": experiment.name,
        "title": experiment.title,
        "notes": [*filter(None, notes)],
        "threshold": experiment.threshold,
        "seeds": int(experiment.history["seed"].nunique()),
        "widths": dict(zip(widths, _colours(widths), strict=True)),
        "volumes": _volumes(experiment.volumes, quantity, strengths),
        "quantities": {name: _quantity(name) for name in [*errors, *measures]},
        "final": [*_final_errors(experiment, errors), *_final_measures(experiment, measures)],
        "courses": [*_error_courses(history, errors), *_measure_courses(experiment, measures)],
        "runs": _runs(history),
    }


def numbers(values: Iterable[float]) -> list[float | None]:
    """Return numbers with a few digits, None where there is none."""
    return [float(f"{v:.{SIGNIFICANT}g}") if np.isfinite(v) else None for v in map(float, values)]


def _quantity(name: str) -> dict[str, Any]:
    about = describe(name)
    return {"title": about.title, "label": about.label, "logarithmic": about.norm}


def _volumes(volumes: list[int], quantity: str, strengths: list[str]) -> list[dict[str, Any]]:
    shades = [BLUE, *_shades("YlOrBr", np.linspace(0.38, 1.0, max(len(volumes) - 1, 1)))]
    names = ["volume 0, the point"] + [
        f"volume {volume}" + (f", {strength} {quantity}" if strength else "")
        for volume, strength in zip(volumes[1:], strengths[1:], strict=True)
    ]
    return [
        {"volume": int(volume), "name": name, "colour": colour}
        for volume, name, colour in zip(volumes, names, shades, strict=False)
    ]


def _colours(widths: list[int]) -> list[str]:
    """Return a colour for each width, dark to light."""
    return _shades("Viridis", np.linspace(0.0, 0.92, len(widths)))


def _shades(scale: str, positions: np.ndarray) -> list[str]:
    return sample_colorscale(scale, [float(position) for position in positions])


def _curve(rows: pd.DataFrame, x: str, **keys: Any) -> dict[str, Any]:
    return keys | {
        "x": rows[x].astype(int).tolist(),
        "y": numbers(rows["mean"]),
        "std": numbers(rows["std"]),
        "seeds": rows["seeds"].astype(int).tolist(),
    }


def _final_errors(experiment: ExperimentTables, names: list[str]) -> list[dict[str, Any]]:
    return [
        _curve(final_errors(experiment, name), "width", measure=name, subset="all", volume=0)
        for name in names
    ]


def _final_measures(experiment: ExperimentTables, names: list[str]) -> list[dict[str, Any]]:
    return [
        _curve(rows, "width", measure=name, subset=str(subset), volume=int(volume))
        for subset in experiment.sharpness["subset"].unique()
        for name in names
        for volume, rows in final_volumes(experiment, name, subset).groupby("volume")
    ]


def _error_courses(history: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    return [
        _curve(rows, "epoch", measure=name, subset="all", width=int(width))
        for name in names
        for width, rows in over_seeds(history, ["width", "epoch"], name).groupby("width")
    ]


def _measure_courses(experiment: ExperimentTables, names: list[str]) -> list[dict[str, Any]]:
    points = experiment.sharpness[experiment.sharpness["volume"] == 0]
    return [
        _curve(rows, "epoch", measure=name, subset=str(subset), width=int(width))
        for subset, table in points.groupby("subset")
        for name in names
        for width, rows in over_seeds(table, ["width", "epoch"], name).groupby("width")
    ]


def _runs(history: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the exact evaluations of each run."""
    names = [n for n in HISTORY_COLUMNS if n in history and n.endswith(("_all", "test_loss"))]
    names = [*names, "train_error", "test_error"]
    return [
        {
            "width": int(width),
            "seed": int(seed),
            "epoch": run["epoch"].astype(int).tolist(),
            "columns": {
                name: numbers(run[name] * (describe(name).scale if name in ERRORS else 1))
                for name in names
                if name != "train_accuracy_all"
            },
        }
        for (width, seed), run in history.sort_values("epoch").groupby(["width", "seed"])
    ]
