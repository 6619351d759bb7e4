"""Write one interactive page of a study: curves over widths and epochs, verdict and a gallery.

    smoothdescent explore --tables results/demo/convnet-cifar10-noise20 \\
        --verdict results/demo/verdict.parquet --data results/demo/data \\
        --output results/demo/explore.html

The page holds its numbers and the plotting library: it works without a network and can be sent to
anybody. What is chosen on it is kept in its address.
"""

from __future__ import annotations

import argparse
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from smoothdescent import __version__
from smoothdescent.explore.content import content
from smoothdescent.explore.gallery import gallery
from smoothdescent.files import read_table, write_text
from smoothdescent.tables.experiment import add_tables_argument, read_all_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_tables_argument(parser)
    parser.add_argument("--verdict", type=Path, metavar="FILE", help="verdict.parquet")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of decoded data sets (none: no gallery)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the page")


def run(args: argparse.Namespace) -> None:
    """Write the page.

    Raises:
        UserError: a table, or what the gallery shows, is missing or damaged.
    """
    experiments = read_all_tables(args.tables)
    shown: dict[str, Any] = {
        "experiments": [content(experiment) for experiment in experiments.values()],
        "verdict": _verdict(args.verdict) if args.verdict else [],
        "galleries": {},
    }
    if args.data:
        for folder, (name, experiment) in zip(args.tables, experiments.items(), strict=True):
            shown["galleries"][name] = gallery(folder, args.data, experiment)
    write_text(args.output, page(shown))
    print(f"wrote {args.output}")


def page(shown: dict[str, Any]) -> str:
    """Return the page that shows some content."""
    from plotly.offline import get_plotlyjs

    # In a script, `</` could end it.
    parts = {
        "@PLOTLY@": get_plotlyjs(),
        "@CONTENT@": json.dumps(shown, allow_nan=False).replace("</", "<\\/"),
        "@SCRIPT@": _own("page.js"),
        "@VERSION@": __version__,
    }
    before, *rest = _own("page.html").split("@PLOTLY@")
    text = before + parts.pop("@PLOTLY@") + "".join(rest)
    for name, part in parts.items():
        text = text.replace(name, part, 1)
    return text


def _own(name: str) -> str:
    return (files("smoothdescent.explore") / name).read_text(encoding="utf-8")


def _verdict(path: Path) -> list[dict[str, Any]]:
    """Return the findings, without numbers that are missing."""
    columns = ["number", "statement", "experiment", "result", "reason", "rule"]
    columns += ["curve_x", "curve_y", "curve_label"]
    rows = read_table(path, columns).to_pylist()
    for row in rows:
        row["curve_y"] = [y if math.isfinite(y) else None for y in row["curve_y"] or []]
    return rows
