from __future__ import annotations

import errno
import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from figures.synthetic import make_experiment
from matplotlib.figure import Figure

from smoothdescent.errors import UserError
from smoothdescent.figures import style
from smoothdescent.figures.command import draw
from smoothdescent.files import read_metadata, read_table

TABLES = {"widths": [2, 4, 8], "epochs": [1, 10, 30], "volumes": 2, "threshold": 4.0}


@pytest.mark.parametrize("figure", ["figure2", "figure5"])
def test_same_tables_give_the_same_bytes(figure: str, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        experiment = make_experiment(**TABLES)
        drawing = draw(figure, {experiment.name: experiment})
        style.save(drawing.figure, drawing.table, tmp_path / folder / figure, {"figure": "x"})
    for suffix in (".pdf", ".png", ".parquet"):
        first, second = (
            (tmp_path / folder / f"{figure}{suffix}").read_bytes() for folder in ("first", "second")
        )
        assert first == second
    pdf = (tmp_path / "first" / f"{figure}.pdf").read_bytes()
    assert b"CreationDate" not in pdf and b"/Subtype /Type3" not in pdf
    assert len(list((tmp_path / "first").iterdir())) == 3


def test_png_has_300_dots_per_inch(tmp_path: Path) -> None:
    figure = style.new_figure(3.4, 2.0)
    style.save(figure, pd.DataFrame({"x": [1.0]}), tmp_path / "f", {})
    header = (tmp_path / "f.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4], "big") == 1020 and int.from_bytes(header[4:], "big") == 600


def test_table_and_metadata_are_stored(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.0, np.nan]})
    style.save(style.new_figure(1, 1), table, tmp_path / "v1.5", {"thresholds": {"e": None}})
    assert read_table(tmp_path / "v1.5.parquet").to_pandas().equals(table)
    assert read_metadata(tmp_path / "v1.5.parquet")["thresholds"] == '{"e":null}'


def test_a_full_disk_leaves_no_half_written_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Figure, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match=r"cannot write .*f\.pdf: the disk is full"):
        style.save(style.new_figure(1, 1), pd.DataFrame(), tmp_path / "f", {})
    assert list(tmp_path.iterdir()) == []


def test_the_callers_settings_neither_matter_nor_change() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.titlesize": 30}):
        experiment = make_experiment(**TABLES)
        drawing = draw("figure2", {experiment.name: experiment})
        assert matplotlib.rcParams["font.size"] == 30
    assert drawing.figure.axes[0].title.get_fontsize() == 8


@pytest.mark.parametrize("count", [1, 2, 7, 10])
def test_volume_colours_grow_darker_and_differ(count: int) -> None:
    colours = style.volume_colours(count)
    assert len(colours) == count and colours[0] == style.BLUE
    brightness = [float(np.dot(c[:3], [0.299, 0.587, 0.114])) for c in colours[1:]]
    assert all(a > b + 0.02 for a, b in itertools.pairwise(brightness))


@pytest.mark.parametrize(
    ("widths", "ticks"),
    [
        ([4], [4]),
        ([3, 4, 5, 6], [3, 4, 5, 6]),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6]),
        ([1, 2, 3, 4, 6, 8, 10, 14], [1, 2, 4, 8, 14]),
        ([3, 5], [3, 5]),
        (list(range(1, 65)), [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_width_ticks(widths: list[int], ticks: list[int]) -> None:
    ax = style.new_figure(3, 2).subplots()
    style.width_axis(ax, np.array(widths))
    assert ax.get_xticks().tolist() == ticks
    assert ax.get_xlim()[0] < widths[0] and ax.get_xlim()[1] > widths[-1]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.7, 5000, [1, 10, 100, 1000]), (0.7, 40, [1, 2, 5, 10, 20]), (16, 37, [20, 30])],
)
def test_epoch_ticks(low: float, high: float, ticks: list[int]) -> None:
    ax = style.new_figure(3, 2).subplots()
    style.epoch_axis(ax, low, high)
    assert ax.get_yticks().tolist() == ticks
