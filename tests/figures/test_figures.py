"""All figures: what they show is what the tables say, and nothing is cut off or overlaps."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures.synthetic import make_experiment
from matplotlib.figure import Figure
from matplotlib.text import Text

from smoothdescent.figures import FIGURES, figure1, shown_experiments, style
from smoothdescent.figures.command import draw
from smoothdescent.figures.drawing import PLOTTED, Drawing
from smoothdescent.figures.toy_regression import regression
from smoothdescent.tables.columns import MEASURES
from smoothdescent.tables.experiment import ExperimentTables

ALL = list(FIGURES)
TABLES = {"widths": [1, 2, 4, 6, 7, 8, 12, 24, 64], "epochs": [0, 1, 3, 10, 40, 200]}
SMALL = {"widths": [4, 7], "epochs": [1, 3], "volumes": 2}
SCALE = {"accuracy": 100.0, "crossentropy": 1.0, "jacobian_norm": 1.0, "hessian_norm": 1.0}


def make_all(figure: str, **tables: object) -> dict[str, ExperimentTables]:
    return {name: make_experiment(name, **tables) for name in shown_experiments(figure)}


def make_empty(figure: str) -> dict[str, ExperimentTables]:
    """Make a figure's experiments with tables whose every value is missing."""
    experiments = make_all(figure, **TABLES)
    for experiment in experiments.values():
        for table in (experiment.history, experiment.sharpness):
            values = [c for c in table if "accuracy" in c or "error" in c or c in MEASURES]
            table[values] = np.nan
    return experiments


@pytest.fixture(scope="module", autouse=True)
def fit_once() -> Iterator[None]:
    """Fit the toy regression of figure 1 once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure1, "regression", functools.cache(regression))
        yield


@pytest.fixture(scope="module")
def drawings(fit_once: None) -> dict[str, tuple[dict[str, ExperimentTables], Drawing]]:
    experiments = {figure: make_all(figure, **TABLES) for figure in [*ALL, "mine"]}
    return {figure: (found, draw(figure, found)) for figure, found in experiments.items()}


@pytest.fixture(scope="module")
def drawings_without_threshold(fit_once: None) -> dict[str, Drawing]:
    tables = {**TABLES, "threshold": 1000.0}
    return {figure: draw(figure, make_all(figure, **tables)) for figure in [*ALL, "mine"]}


def written(figure: Figure) -> str:
    texts = [" ".join(text.get_text().split()) for text in figure.findobj(Text)]
    return " ".join(texts).replace("\u00a0", " ")


def expected_curve(
    rows: list[dict[str, float]], column: str, scale: float
) -> list[tuple[float, float, float | None, int]]:
    """Average over seeds with loops: (width, mean, std or None, seeds)."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if not np.isnan(row[column]):
            values.setdefault(int(row["width"]), []).append(scale * row[column])
    return [
        (w, statistics.mean(v), statistics.stdev(v) if len(v) > 1 else None, len(v))
        for w, v in sorted(values.items())
    ]


def assert_curve(
    table: pd.DataFrame, panel: str, series: str, expected: list[tuple[float, ...]]
) -> None:
    rows = table[(table["panel"] == panel) & (table["series"] == series)]
    assert len(expected) > 1
    assert rows["x"].tolist() == [row[0] for row in expected]
    assert rows["y"].tolist() == pytest.approx([row[1] for row in expected], rel=1e-12)
    std = [np.nan if row[2] is None else row[2] for row in expected]
    assert rows["y_std"].tolist() == pytest.approx(std, rel=1e-9, nan_ok=True)
    assert rows["seeds"].tolist() == [row[3] for row in expected]


def last_rows(frame: pd.DataFrame, **where: object) -> list[dict[str, float]]:
    # All runs of the synthetic tables end together.
    where["epoch"] = frame["epoch"].max()
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.to_dict("records")


@pytest.mark.parametrize("figure", ALL)
def test_table_schema(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]], figure: str
) -> None:
    _, drawing = drawings[figure]
    assert list(drawing.table.columns) == list(PLOTTED)
    assert set(drawing.table["panel"]) == set(drawing.axes)
    assert all("(" in a["y"] or a["y"] in ("epoch", "output y") for a in drawing.axes.values())


@pytest.mark.parametrize(
    ("figure", "prefix", "subset"),
    [
        ("figure2", "", "all"),
        ("figure3", "clean ", "clean"),
        ("figure3", "noisy ", "noisy"),
        ("figure4", "", "all"),
        ("figure6", "b ", "all"),
        ("figure7", "a clean ", "clean"),
        ("figure7", "a noisy ", "noisy"),
    ],
)
def test_measures_over_volumes(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
    figure: str,
    prefix: str,
    subset: str,
) -> None:
    experiments, drawing = drawings[figure]
    experiment = experiments[FIGURES[figure][0]]
    table = drawing.table
    for volume in range(7):
        rows = last_rows(experiment.sharpness, subset=subset, volume=volume)
        for measure in MEASURES:
            curve = expected_curve(rows, measure, SCALE[measure])
            assert_curve(table, f"{prefix}{measure}", f"volume {volume}", curve)


@pytest.mark.parametrize(
    ("figure", "panel", "experiment", "series", "column"),
    [
        ("figure1", "c", "convnet-cifar10-noise20", "test error", "test_error"),
        ("figure1", "d", "convnet-cifar100", "test error", "test_error"),
        ("figure6", "a", "resnet18-cifar10-noise20", "test error", "test_error"),
        ("figure7", "b", "convnet-cifar100-asymmetric", "corrupted classes",
         "test_error_corrupted"),
        ("figure7", "b", "convnet-cifar100-asymmetric", "unperturbed classes",
         "test_error_unperturbed"),
    ],
)  # fmt: skip
def test_errors_over_width(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
    figure: str,
    panel: str,
    experiment: str,
    series: str,
    column: str,
) -> None:
    experiments, drawing = drawings[figure]
    rows = last_rows(experiments[experiment].history)
    assert_curve(drawing.table, panel, series, expected_curve(rows, column, 100.0))
    if panel != "b":
        for row in rows:
            row["train_error"] = 1.0 - row["train_accuracy_all"]
        errors = expected_curve(rows, "train_error", 100.0)
        assert_curve(drawing.table, panel, "training error", errors)


@pytest.mark.parametrize(
    ("figure", "experiment", "columns"),
    [
        ("figure5", "convnet-cifar10-noise20", ["test_error", "crossentropy", "jacobian_norm"]),
        ("figure8", "resnet18-cifar10-noise20",
         ["test_error", "crossentropy", "jacobian_norm", "hessian_norm"]),
        ("figure8", "convnet-cifar10-noise20", ["hessian_norm"]),
    ],
)  # fmt: skip
def test_heatmaps(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
    figure: str,
    experiment: str,
    columns: list[str],
) -> None:
    experiments, drawing = drawings[figure]
    source = experiments[experiment]
    table = drawing.table
    for column in columns:
        frame = source.history if column == "test_error" else source.sharpness
        values: dict[tuple[int, int], list[float]] = {}
        for row in frame.to_dict("records"):
            at_point = column == "test_error" or (row["subset"] == "all" and row["volume"] == 0)
            if at_point and row["epoch"] > 0 and not np.isnan(row[column]):
                values.setdefault((row["epoch"], row["width"]), []).append(row[column])
        panel = column if figure == "figure5" else f"{experiment} {column}"
        shown = table[table["panel"] == panel]
        assert list(zip(shown["y"], shown["x"], strict=True)) == sorted(values)
        scale = 100.0 if column == "test_error" else 1.0
        means = [scale * statistics.mean(values[key]) for key in sorted(values)]
        stds = [scale * statistics.stdev(values[key]) for key in sorted(values)]
        assert shown["value"].tolist() == pytest.approx(means, rel=1e-12)
        assert shown["value_std"].tolist() == pytest.approx(stds, rel=1e-9)
        assert shown["y_std"].isna().all()


def test_heatmap_cells_lie_around_their_epoch_and_width(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
) -> None:
    _, drawing = drawings["figure5"]
    mesh = drawing.figure.axes[2].collections[0]
    cells = drawing.table[drawing.table["panel"] == "jacobian_norm"]
    cells = cells.pivot(index="y", columns="x", values="value")
    corners = mesh.get_coordinates()
    x_edges, y_edges = corners[0, :, 0], corners[:, 0, 1]
    assert np.array_equal(np.asarray(mesh.get_array()).reshape(cells.shape), cells.to_numpy())
    for edges, centres in ((x_edges, cells.columns), (y_edges, cells.index)):
        assert np.all(edges[:-1] < centres) and np.all(centres < edges[1:])


def test_figure1_shows_the_toy_regression(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
) -> None:
    table = drawings["figure1"][1].table
    toy = figure1.regression()
    for panel, fit in (("a", toy.polynomial), ("b", toy.network)):
        rows = table[(table["panel"] == panel) & (table["series"] == "fit")]
        assert np.array_equal(rows["y"], fit)
        noisy = table[(table["panel"] == panel) & (table["series"] == "noisy")]
        assert np.array_equal(noisy["y"], toy.samples.y[toy.samples.is_noisy])


@pytest.mark.parametrize("figure", ALL)
def test_threshold_is_marked_at_its_width(
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]], figure: str
) -> None:
    _, drawing = drawings[figure]
    marked = [
        line.get_xdata()[0]
        for ax in drawing.figure.axes
        for line in ax.lines
        if line.get_linestyle() == ":"
    ]
    panels = {"figure1": 2, "figure2": 4, "figure3": 8, "figure4": 4}
    panels |= {"figure5": 3, "figure6": 5, "figure7": 9, "figure8": 5}
    assert marked == [7] * panels[figure]
    assert "no width interpolates" not in written(drawing.figure)


@pytest.mark.parametrize("figure", [*ALL, "mine"])
def test_a_figure_without_a_threshold_says_so(
    drawings_without_threshold: dict[str, Drawing], figure: str
) -> None:
    drawing = drawings_without_threshold[figure]
    note = "no width interpolates (highest training accuracy 38.6 % at w = 64)"
    assert note in written(drawing.figure)
    axes = drawing.figure.axes
    assert not any(line.get_linestyle() == ":" for ax in axes for line in ax.lines)


@pytest.mark.parametrize("case", ["whole", "no threshold", "one experiment", "dense", "no values"])
@pytest.mark.parametrize("figure", [*ALL, "mine"])
def test_layout(
    figure: str,
    case: str,
    drawings: dict[str, tuple[dict[str, ExperimentTables], Drawing]],
    drawings_without_threshold: dict[str, Drawing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every text is at least 7 points, inside the figure, and clear of every other."""
    lines: list[str] = []
    if case == "whole":
        drawing = drawings[figure][1]
    elif case == "no threshold":
        drawing = drawings_without_threshold[figure]
    elif case == "dense":
        tables = {"widths": list(range(1, 65)), "seeds": (0,), "epochs": [1, 4000]}
        drawing = draw(figure, make_all(figure, **tables, threshold=15.0))
    elif case == "no values":
        drawing = draw(figure, make_empty(figure))
        assert "no data" in written(drawing.figure) or figure == "figure1"
    else:
        experiments = make_all(figure, **TABLES)
        name, *others = experiments
        lines = [f"{other} left out: no tables" for other in others]
        drawing = draw(figure, {name: experiments[name]})
    assert_layout(drawing, lines, monkeypatch)


@pytest.mark.parametrize("figure", ["figure2", "figure6", "mine"])
def test_measures_of_the_users(figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have panels below the paper's four, which stay as they are."""
    experiments = make_all(figure, **TABLES)
    [experiment] = experiments.values()
    for name, sign in (("margin", 1), ("loss_gap", -1)):
        experiment.sharpness[name] = sign * experiment.sharpness["crossentropy"]
    drawing = draw(figure, experiments)
    rows = drawing.table.assign(panel=drawing.table["panel"].str.removeprefix("b "))
    loss, gap = (rows.loc[rows["panel"] == name, "y"] for name in ("crossentropy", "loss_gap"))
    assert gap.tolist() == [-y for y in loss.tolist()] and len(gap)
    [ax] = [ax for ax in drawing.figure.axes if ax.get_title() == "Loss gap"]
    assert ax.get_ylim()[0] < gap.min()
    assert_layout(drawing, [], monkeypatch)


def assert_layout(drawing: Drawing, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    style.add_lines(drawing.figure, lines)
    drawn: list[Text] = []
    draw_text = Text.draw

    def record(text: Text, renderer: object) -> None:
        drawn.append(text)
        draw_text(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    drawing.figure.draw_without_rendering()
    boxes = [(t.get_text(), t.get_window_extent()) for t in drawn if t.get_text().strip()]
    assert len(boxes) > 15
    assert min(text.get_fontsize() for text in drawn) >= 7
    width, height = drawing.figure.bbox.width, drawing.figure.bbox.height
    for index, (text, box) in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
        for other, other_box in boxes[:index]:
            apart_x = box.x0 >= other_box.x1 - 1 or other_box.x0 >= box.x1 - 1
            apart_y = box.y0 >= other_box.y1 - 1 or other_box.y0 >= box.y1 - 1
            assert apart_x or apart_y, f"{text!r} overlaps {other!r}"


@pytest.mark.parametrize("figure", ALL)
def test_one_seed_has_no_band(figure: str) -> None:
    drawing = draw(figure, make_all(figure, **TABLES, seeds=(0,)))
    assert drawing.table["y_std"].isna().all() and drawing.table["value_std"].isna().all()
    assert set(drawing.table["seeds"].dropna()) == {1}
    for ax in drawing.figure.axes:
        for band in ax.collections:
            if type(band).__name__ == "FillBetweenPolyCollection":
                assert all(len(path.vertices) == 0 for path in band.get_paths())


@pytest.mark.parametrize("figure", ALL)
def test_smallest_study_renders(figure: str, tmp_path: Path) -> None:
    """One width, one seed, one epoch, no path: everything that a first run has."""
    tables = {"widths": [4], "seeds": (0,), "epochs": [20], "volumes": 1}
    drawing = draw(figure, make_all(figure, **tables))
    drawing.figure.savefig(tmp_path / "figure.png", dpi=50)


@pytest.mark.parametrize("figure", [*ALL, "mine"])
def test_a_diverged_run_is_left_out(figure: str, tmp_path: Path) -> None:
    experiments = make_all(figure, **TABLES)
    for experiment in experiments.values():
        table = experiment.sharpness
        lost = (table["width"] == 4) & (table["seed"] == 1) & (table["epoch"] > 3)
        for column in ("crossentropy", "jacobian_norm", "hessian_norm"):
            table.loc[lost, column] = np.inf
    drawing = draw(figure, experiments)
    drawing.figure.savefig(tmp_path / "figure.png", dpi=50)
    for ax in drawing.figure.axes:
        assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
    rows = drawing.table
    rows = rows[(rows["x"] == 4) & rows["series"].isin(["volume 6", "Hessian norm"])]
    assert len(rows) or figure in ("figure1", "figure5")
    assert set(rows["seeds"]) <= {2, 3} and rows["seeds"].eq(2).any() == bool(len(rows))
    assert "no data" not in written(drawing.figure)


@pytest.mark.parametrize("figure", ["figure3", "figure5", "figure6"])
def test_missing_values(figure: str, tmp_path: Path) -> None:
    experiments = make_all(figure, **TABLES)
    for experiment in experiments.values():
        experiment.history.loc[:, "test_error"] = np.nan
        table = experiment.sharpness
        table.loc[:, "hessian_norm"] = np.nan
        table.loc[(table["width"] == 8) & (table["seed"] == 1), "jacobian_norm"] = np.nan
        table.loc[table["width"] == 4, "jacobian_norm"] = np.nan
    drawing = draw(figure, experiments)
    drawing.figure.savefig(tmp_path / "figure.png", dpi=50)
    shown = drawing.table[drawing.table["panel"].str.contains("jacobian_norm")]
    assert shown.loc[shown["x"] == 8, "seeds"].eq(2).all()
    assert shown.loc[shown["x"] == 4, "seeds"].eq(0).all()
    assert "no data" in written(drawing.figure)


def test_hessian_norms_of_both_families_have_one_scale() -> None:
    experiments = {name: make_experiment(name, **SMALL) for name in FIGURES["figure8"]}
    meshes = [ax.collections[0] for ax in draw("figure8", experiments).figure.axes[3:5]]
    scales = {(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes}
    assert len(scales) == 1 and all(mesh.norm.vmax == 1000 * mesh.norm.vmin for mesh in meshes)
    assert max(mesh.get_array().max() for mesh in meshes) == meshes[0].norm.vmax


def test_a_colour_bar_is_pointed_where_values_lie_below_it() -> None:
    experiments = {}
    for name, norm in zip(FIGURES["figure8"], (1.0, 1e-4), strict=True):
        made = make_experiment(name, **SMALL)
        sharpness = made.sharpness.assign(hessian_norm=norm)
        experiments[name] = replace(made, sharpness=sharpness)
    meshes = [ax.collections[0] for ax in draw("figure8", experiments).figure.axes[:5]]
    assert [mesh.colorbar.extend for mesh in meshes] == [*["neither"] * 4, "min"]


def test_panels_of_missing_experiments_are_left_out() -> None:
    first, second = FIGURES["figure1"]
    assert set(draw("figure1", {first: make_experiment(first, **SMALL)}).axes) == {"a", "b", "c"}
    assert set(draw("figure1", {second: make_experiment(second, **SMALL)}).axes) == {"a", "b", "d"}
    resnet, convnet = FIGURES["figure8"]
    assert len(draw("figure8", {resnet: make_experiment(resnet, **SMALL)}).axes) == 4
    assert set(draw("figure8", {convnet: make_experiment(convnet, **SMALL)}).axes) == {
        f"{convnet} hessian_norm"
    }
