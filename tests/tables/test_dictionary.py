"""docs/tables.md: the columns that tables have, and code that runs."""

import re
from pathlib import Path

import pytest

from smoothdescent.files import read_table
from smoothdescent.tables.columns import HISTORY_COLUMNS, SHARPNESS_KEYS
from smoothdescent.tables.dictionary import TABLES, with_columns

PAGE = (Path(__file__).parents[2] / "docs/tables.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date():
    assert with_columns(PAGE) == PAGE, "python -m smoothdescent.tables.dictionary docs/tables.md"


def test_columns_that_are_known():
    columns = {table.file: table.columns for table in TABLES}
    assert {*HISTORY_COLUMNS} <= columns["history.parquet"].keys()
    assert {*SHARPNESS_KEYS} <= columns["sharpness.parquet"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.file)
def test_the_columns_of_a_real_study(finished_study, table):
    file = table.file.replace("w4_s0", "w2_s0").replace("e10", "e4")
    assert [*table.columns] == read_table(finished_study.results / file).column_names


@pytest.mark.slow
def test_the_code_runs_as_it_stands(finished_study, monkeypatch, capsys):
    monkeypatch.chdir(finished_study.folder)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(code, "docs/tables.md", "exec"), names)
    assert names["images"].shape == (3, 16, 16, 3)
    assert names["sharpest"]["sharpness"].is_monotonic_decreasing
    areas = names["areas"]
    assert areas["area"].between(0, 1).all() and len(areas) == 2 * 2
    intervals = names["intervals"](areas, "area")
    assert (intervals["low"] <= intervals["mean"]).all() and len(intervals) == 2
    printed = capsys.readouterr().out
    assert "fitted_since" in printed and "threshold" in printed
