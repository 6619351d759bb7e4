"""Verdicts of several scales side by side: one table, statement by scale."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from smoothdescent.errors import UserError
from smoothdescent.files import read_table
from smoothdescent.verdict.evidence import FAILS, HOLDS, RESULTS, UNDECIDED
from smoothdescent.verdict.findings import tally
from smoothdescent.verdict.report import SYMBOLS, markdown_row
from smoothdescent.verdict.statements import STATEMENTS

READ = ("number", "result")


def compare_scales(folders: list[Path]) -> str:
    """Return the results of every statement at every scale as a table in Markdown.

    Args:
        folders: results folders of scales, each with verdict.parquet; a column is named after its
            folder.

    Raises:
        UserError: a verdict is missing, unreadable or no verdict, or two folders have one name.
    """
    scales: dict[str, pd.DataFrame] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in scales:
            raise UserError(f"--compare names two folders {name!r}, expected each name once")
        scales[name] = _read(folder / "verdict.parquet")
    results = {
        name: tally(zip(table["number"], table["result"], strict=True))
        for name, table in scales.items()
    }
    rows = [markdown_row(["", "Finding", *scales]), markdown_row(["---"] * (2 + len(scales)))]
    for number, statement in STATEMENTS.items():
        cells = [_cell(table[table["number"] == number], results[name].get(number))
                 for name, table in scales.items()]  # fmt: skip
        rows.append(markdown_row([str(number), statement.text, *cells]))
    counts = [Counter(found.values()) for found in results.values()]
    for words, result in (("hold", HOLDS), ("do not", FAILS), ("cannot be told", UNDECIDED)):
        rows.append(markdown_row(["", words, *(str(count[result]) for count in counts)]))
    return "\n".join(rows) + "\n"


def _cell(findings: pd.DataFrame, result: str | None) -> str:
    """Return the result of a statement, and for how many of its experiments if not for all."""
    if result is None:
        return "–"
    share = (findings["result"] == result).sum()
    of = "" if share == len(findings) else f" ({share} of {len(findings)})"
    return f"{SYMBOLS[result]} {result}{of}"


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path, list(READ), {"table": "verdict"}).to_pandas()
    unknown = set(table["result"]) - set(RESULTS)
    if unknown:
        raise UserError(f"{path} has the result {min(unknown)!r}, expected {', '.join(RESULTS)}")
    return table
