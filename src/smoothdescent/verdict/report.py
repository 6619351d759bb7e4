"""The verdict as Markdown and as one self-contained page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from html import escape

import numpy as np

from smoothdescent import __version__
from smoothdescent.tables.columns import measures_of
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import FAILS, HOLDS, RESULTS, UNDECIDED, counted
from smoothdescent.verdict.findings import Finding

TITLE = "Verdict on the findings of Deep Double Descent via Smooth Interpolation"
NOTE = (
    "A finding is undecided where the tables cannot tell: no width reaches the threshold, one seed "
    "only, too few widths, or a difference within the noise between seeds. Intervals are 95 %, "
    "over seeds, for the samples that were measured. The findings are not corrected for being many."
)
COLUMNS = ("", "Finding", "Experiment", "Result", "Value", "95 % interval", "Why")
SYMBOLS = {HOLDS: "✔", FAILS: "✘", UNDECIDED: "?"}


def to_markdown(findings: list[Finding], experiments: Mapping[str, ExperimentTables]) -> str:
    """Return the verdict in Markdown: a table of the findings, then the rules."""
    lines = [f"# {TITLE}", "", f"{tally(findings)}. {NOTE}", ""]
    lines += [f"- {text}" for text in _thresholds(experiments)]
    lines += ["", _row(COLUMNS), _row(["---"] * len(COLUMNS))]
    lines += [
        _row(
            [
                str(f.number),
                f.statement,
                f"`{f.experiment}`",
                f"**{f.result}**",
                _value(f),
                _interval(f),
                f.reason,
            ]
        )
        for f in findings
    ]
    lines += ["", "## Rules", ""]
    lines += [f"{number}. {rule}" for number, rule in _rules(findings)]
    return "\n".join(lines) + "\n"


def to_html(findings: list[Finding], experiments: Mapping[str, ExperimentTables]) -> str:
    """Return the verdict as an HTML page that needs no other file."""
    names = ("", "Finding", "Result", "Value<br><small>95 % interval</small>", "Why")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "\n".join(_html_row(finding) for finding in findings)
    rules = "\n".join(
        f'<li value="{number}">{escape(rule)}</li>' for number, rule in _rules(findings)
    )
    thresholds = "".join(f"<li>{escape(text)}</li>" for text in _thresholds(experiments))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(TITLE)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(TITLE)}</h1>
<p><strong>{escape(tally(findings))}.</strong> {escape(NOTE)}</p>
<ul>{thresholds}</ul>
<div class="wide"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
<h2>Rules</h2>
<ol>
{rules}
</ol>
<footer>smoothdescent {escape(__version__)}</footer>
</body>
</html>
"""


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem;
  padding: 0 1rem; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem;
  border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; }
td.n { text-align: right; } td.v { min-width: 7rem; }
td.s { min-width: 14rem; } td.w { min-width: 18rem; } small { color: #555; }
b { white-space: nowrap; padding: .1rem .45rem; border-radius: .3rem; font-weight: 600; }
.holds { background: #d9efdf; color: #0b4f23; } .fails { background: #f8dcd8; color: #7d1609; }
.undecided { background: #ececec; color: #444; }
footer { margin-top: 2rem; color: #666; }
"""


def _html_row(finding: Finding) -> str:
    cells = (
        ("n", str(finding.number)),
        ("s", f"{escape(finding.statement)}<br><small>{escape(finding.experiment)}</small>"),
        ("r", f'<b class="{finding.result}">{SYMBOLS[finding.result]} {finding.result}</b>'),
        ("v", f"{escape(_value(finding))}<br><small>{escape(_interval(finding))}</small>"),
        ("w", f"{escape(finding.reason)}<br><small>{escape(finding.statistic)}</small>"),
    )
    return (
        "<tr>" + "".join(f'<td class="{kind}">{content}</td>' for kind, content in cells) + "</tr>"
    )


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(finding: Finding) -> str:
    if not math.isfinite(finding.value):
        return "–"
    return f"{finding.value:.3g} {finding.unit}".rstrip()


def _interval(finding: Finding) -> str:
    if math.isnan(finding.low) and math.isnan(finding.high):
        return "–"
    return f"{finding.low:.3g} to {finding.high:.3g}"


def tally(findings: list[Finding]) -> str:
    """Return how many findings have each result, such as '12 hold, 1 fails'."""
    counts = Counter(finding.result for finding in findings)
    return ", ".join(counted(result, counts[result]) for result in RESULTS if counts[result])


def _thresholds(experiments: Mapping[str, ExperimentTables]) -> list[str]:
    return [
        f"{name}: "
        + (
            f"interpolation threshold w = {experiment.threshold}"
            if experiment.threshold is not None
            else experiment.threshold_note
        )
        + f", {experiment.history['seed'].nunique()} seed(s)"
        + _left_out(experiment)
        for name, experiment in experiments.items()
    ]


def _left_out(experiment: ExperimentTables) -> str:
    """Say how many runs have values that no mean can include: they diverged."""
    table = experiment.sharpness
    finite = np.isfinite(table[measures_of(table)]).all(axis=1)
    runs = table[~finite][["width", "seed"]].drop_duplicates()
    return f", {len(runs)} run(s) with values that are not finite left out" if len(runs) else ""


def _rules(findings: list[Finding]) -> list[tuple[int, str]]:
    return sorted({(finding.number, finding.rule) for finding in findings})
