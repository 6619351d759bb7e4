"""The verdict as Markdown and as one self-contained page."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np

from smoothdescent import __version__
from smoothdescent.tables.columns import measures_of
from smoothdescent.tables.convergence import convergence_note
from smoothdescent.tables.experiment import ExperimentTables, partial_note
from smoothdescent.verdict.evidence import FAILS, HOLDS, UNDECIDED
from smoothdescent.verdict.findings import Finding, tally

TITLE = "Verdict on the findings of Deep Double Descent via Smooth Interpolation"
NOTE = (
    "A finding does not hold if it fails for one experiment; it holds if it does for one and fails "
    "for none; otherwise it cannot be told: too little data, or a difference within the noise "
    "between seeds. Intervals are 95 %, over seeds, for the samples that were measured. The "
    "findings are not corrected for being many."
)
COLUMNS = ("", "Finding", "Experiment", "Result", "Value")
SYMBOLS = {HOLDS: "✔", FAILS: "✘", UNDECIDED: "?"}
PICTURE = (120, 28)  # pixels


def summary(findings: list[Finding]) -> str:
    """Return the verdict in one sentence; the findings are counted over experiments by `tally`."""
    results = tally((finding.number, finding.result) for finding in findings)
    counts = Counter(results.values())
    return (
        f"At this scale {counts[HOLDS]} of {len(results)} findings hold, {counts[FAILS]} do not, "
        f"{counts[UNDECIDED]} cannot be told"
    )


def _numbers(findings: list[Finding]) -> str:
    """Return which findings have each result."""
    results = tally((finding.number, finding.result) for finding in findings)
    groups = [
        (words, [str(number) for number, found in results.items() if found == result])
        for result, words in ((HOLDS, "Hold"), (FAILS, "Do not"), (UNDECIDED, "Cannot be told"))
    ]
    return " ".join(f"{words}: {', '.join(numbers)}." for words, numbers in groups if numbers)


def to_markdown(findings: list[Finding], experiments: Mapping[str, ExperimentTables]) -> str:
    """Return the verdict in Markdown: a sentence, a line for each finding, then why, then rules."""
    lines = [f"# {TITLE}", ""]
    if note := partial_note(experiments.values()):
        lines += [note, ""]
    lines += [f"**{summary(findings)}.** {_numbers(findings)}", "", NOTE, ""]
    lines += [f"- {text}" for text in experiment_notes(experiments)]
    lines += ["", markdown_row(COLUMNS), markdown_row(["---"] * len(COLUMNS))]
    lines += [
        markdown_row(
            [f"{f.number}", f.statement, f"`{f.experiment}`", f"**{f.result}**", _value(f)]
        )
        for f in findings
    ]
    lines += ["", "## Why", ""]
    lines += [f"- {f.number}, `{f.experiment}`, {f.result}: {f.reason}" for f in findings]
    lines += ["", "## Rules", ""]
    lines += [f"{number}. {rule}" for number, rule in _rules(findings)]
    return "\n".join(lines) + "\n"


def to_html(findings: list[Finding], experiments: Mapping[str, ExperimentTables]) -> str:
    """Return the verdict as an HTML page that needs no other file."""
    names = ("", "Finding", "Result", "Value", "Curve", "Why")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "\n".join(_html_row(finding, experiments) for finding in findings)
    rules = "\n".join(
        f'<li value="{number}">{escape(rule)}</li>' for number, rule in _rules(findings)
    )
    thresholds = list_items(experiment_notes(experiments))
    note = partial_note(experiments.values())
    opening = f"<p><strong>{escape(note)}</strong></p>\n" if note else ""
    opening += f"<p><strong>{escape(summary(findings))}.</strong> {escape(_numbers(findings))}</p>"
    return html_page(
        TITLE,
        f"""{opening}
<p>{escape(NOTE)} A curve is that of the test that decides, a mean over seeds against width; dotted:
the interpolation threshold.</p>
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
</ol>""",
    )


def html_page(title: str, body: str) -> str:
    """Return an HTML page that needs no other file: a title, and below it a body in HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
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
td.s { min-width: 18rem; } small { color: #555; }
img { max-width: 100%; }
svg { fill: none; stroke: #1c1c1c; stroke-width: 1.3; } summary { cursor: pointer; }
b { white-space: nowrap; padding: .1rem .45rem; border-radius: .3rem; font-weight: 600; }
.holds { background: #d9efdf; color: #0b4f23; } .fails { background: #f8dcd8; color: #7d1609; }
.undecided { background: #ececec; color: #444; }
footer { margin-top: 2rem; color: #666; }
"""


def _html_row(finding: Finding, experiments: Mapping[str, ExperimentTables]) -> str:
    experiment = experiments.get(finding.experiment)
    threshold = experiment.threshold if experiment else None
    why = f"{escape(finding.reason)}<br><small>{escape(finding.statistic)}</small>"
    cells = (
        ("n", str(finding.number)),
        ("s", f"{escape(finding.statement)}<br><small>{escape(finding.experiment)}</small>"),
        ("r", f'<b class="{finding.result}">{SYMBOLS[finding.result]} {finding.result}</b>'),
        ("v", f"{escape(_value(finding))}<br><small>{escape(_interval(finding))}</small>"),
        ("p", picture(finding, threshold)),
        ("w", f"<details><summary>why</summary>{why}</details>"),
    )
    return (
        "<tr>" + "".join(f'<td class="{kind}">{content}</td>' for kind, content in cells) + "</tr>"
    )


def list_items(lines: Iterable[str]) -> str:
    """Return lines of Markdown as the items of a list in HTML; code in them is marked."""
    marked = (re.sub("`(.*?)`", r"<code>\1</code>", escape(line)) for line in lines)
    return "".join(f"<li>{line}</li>" for line in marked)


def picture(finding: Finding, threshold: float | None) -> str:
    """Return the curve that decides a finding as a small SVG; empty if there is none to draw.

    The axis of widths is logarithmic; a dotted line marks the threshold.
    """
    if len(finding.curve_x) < 2:
        return ""
    x, y = np.log(finding.curve_x), np.array(finding.curve_y)
    width, height = PICTURE
    margin = 3
    across = (width - 2 * margin) / np.ptp(x)
    up = (height - 2 * margin) / (np.ptp(y) or 1.0)
    points = " ".join(
        f"{margin + (a - x[0]) * across:.1f},{height - margin - (b - y.min()) * up:.1f}"
        for a, b in zip(x, y, strict=True)
    )
    line = ""
    if threshold is not None and x[0] <= np.log(threshold) <= x[-1]:
        at = margin + (np.log(threshold) - x[0]) * across
        line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height}" stroke-dasharray="1 2"/>'
    return (
        f'<svg width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(finding.curve_label)} against width">'
        f'{line}<polyline points="{points}"/></svg>'
    )


def markdown_row(cells: list[str] | tuple[str, ...]) -> str:
    """Return a row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(finding: Finding) -> str:
    if not math.isfinite(finding.value):
        return "–"
    return f"{finding.value:.3g} {finding.unit}".rstrip()


def _interval(finding: Finding) -> str:
    if math.isnan(finding.low) and math.isnan(finding.high):
        return "–"
    return f"{finding.low:.3g} to {finding.high:.3g}"


def experiment_notes(experiments: Mapping[str, ExperimentTables]) -> list[str]:
    """Return a line for each of some tables, by any name: threshold, seeds, and what went wrong."""
    lines = []
    for name, experiment in experiments.items():
        threshold = experiment.threshold
        parts = [
            f"interpolation threshold w = {threshold}" if threshold is not None else "",
            experiment.threshold_note,
            _count(experiment.history["seed"].nunique(), "seed"),
            _left_out(experiment),
            convergence_note(experiment.history),
        ]
        lines.append(f"{name}: {'; '.join(filter(None, parts))}")
    return lines


def _left_out(experiment: ExperimentTables) -> str:
    """Say how many runs have values that no mean can include: they diverged."""
    table = experiment.sharpness
    finite = np.isfinite(table[measures_of(table)]).all(axis=1)
    runs = table[~finite][["width", "seed"]].drop_duplicates()
    names = ", ".join(f"w{width}_s{seed}" for width, seed in runs.itertuples(index=False))
    found = f"{_count(len(runs), 'run')} with values that are not finite left out: {names}"
    return found if names else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rules(findings: list[Finding]) -> list[tuple[int, str]]:
    return sorted({(finding.number, finding.rule) for finding in findings})
