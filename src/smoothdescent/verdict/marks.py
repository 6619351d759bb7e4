"""The verdict's marks on figures."""

from __future__ import annotations

from pathlib import Path

from smoothdescent.files import read_table


def mark(verdict: str | Path, figure: str) -> str:
    """Return one line for a figure: the result of each statement that it shows.

    Args:
        verdict: a verdict.parquet.
        figure: such as 'figure2'.

    Returns:
        Such as 'Statement 2 holds; 3 undecided'; empty if the figure shows none.
    """
    table = read_table(verdict).to_pandas()
    table = table[[figure in figures for figures in table["figures"]]]
    results = table.groupby("number")["result"].agg(lambda rows: "/".join(dict.fromkeys(rows)))
    parts = [f"{number} {result}" for number, result in results.items()]
    return f"Statement {'; '.join(parts)}" if parts else ""
