"""A comparison as Markdown, with pictures beside it, and as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

from smoothdescent.compare.content import differences, findings
from smoothdescent.compare.study import ComparedStudy, shared_experiments
from smoothdescent.figures.captions import BANDS, VOLUMES
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.report import (
    SYMBOLS,
    experiment_notes,
    html_page,
    list_items,
    markdown_row,
)


class Block(Protocol):
    """A part of a report that is written both ways."""

    def markdown(self) -> str:
        """Return it in Markdown."""

    def html(self) -> str:
        """Return it as HTML."""


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3."""

    level: int
    text: str

    def markdown(self) -> str:
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        return f"<h{self.level}>{escape(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str

    def markdown(self) -> str:
        return self.text

    def html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Items:
    """A list of lines; nothing if there are none."""

    lines: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {line}" for line in self.lines)

    def html(self) -> str:
        return f"<ul>{list_items(self.lines)}</ul>" if self.lines else ""


@dataclass(frozen=True)
class Table:
    """A table of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        rows = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(markdown_row(list(row)) for row in rows)

    def html(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = "\n".join(
            f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in self.rows
        )
        return (
            f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody>\n</table></div>"
        )


@dataclass(frozen=True)
class Picture:
    """A PNG file, which lies beside the Markdown and is in the page."""

    about: str
    path: Path

    def markdown(self) -> str:
        return f"![{self.about}]({self.path.name})"

    def html(self) -> str:
        content = base64.b64encode(self.path.read_bytes()).decode()
        return f'<img alt="{escape(self.about)}" src="data:image/png;base64,{content}">'


def to_markdown(studies: Mapping[str, ComparedStudy], pictures: Mapping[str, Path]) -> str:
    """Return a comparison in Markdown.

    Args:
        studies: by name.
        pictures: of the curves of each experiment that studies share, beside the Markdown.
    """
    parts = [f"# {_title(studies)}", *(b.markdown() for b in _blocks(studies, pictures))]
    return "\n\n".join(filter(None, parts)) + "\n"


def to_html(studies: Mapping[str, ComparedStudy], pictures: Mapping[str, Path]) -> str:
    """Return the same as an HTML page that needs no other file."""
    parts = [block.html() for block in _blocks(studies, pictures)]
    return html_page(_title(studies), "\n".join(filter(None, parts)))


def _title(studies: Mapping[str, ComparedStudy]) -> str:
    return f"Studies side by side: {', '.join(studies)}"


def _blocks(studies: Mapping[str, ComparedStudy], pictures: Mapping[str, Path]) -> list[Block]:
    shared = shared_experiments(studies)
    missing = [f"{sentence}." for study in studies.values() for sentence in study.missing]
    return [
        Items(missing),
        *_findings(studies),
        *_curves(shared, pictures),
        *_configuration(studies, shared),
    ]


def _configuration(
    studies: Mapping[str, ComparedStudy], shared: Mapping[str, Mapping[str, ExperimentTables]]
) -> list[Block]:
    alone = [
        f"{experiment}: only in {study}"
        for study, found in studies.items()
        for experiment in found.experiments
        if experiment not in shared
    ]
    blocks: list[Block] = [Heading(2, "Configuration"), Items(alone)]
    for name, having in shared.items():
        rows = differences(having)
        same = Paragraph("All settings are the same.")
        blocks += [Heading(3, name), Table(["key", *having], rows) if rows else same]
    return blocks


def _findings(studies: Mapping[str, ComparedStudy]) -> list[Block]:
    head, rows = findings(studies)
    none = Paragraph("No study has a verdict.")
    return [Heading(2, "Findings"), Table(head, rows) if rows else none]


def _curves(
    shared: Mapping[str, Mapping[str, ExperimentTables]], pictures: Mapping[str, Path]
) -> list[Block]:
    if not shared:
        none = Paragraph("No experiment is in two studies.")
        return [Heading(2, "Curves"), none]
    bands = {BANDS[tables.bands] for having in shared.values() for tables in having.values()}
    about = VOLUMES.format(bands=" or ".join(sorted(bands)))
    blocks: list[Block] = [
        Heading(2, "Curves"),
        Paragraph(f"{about} Dotted lines are the interpolation thresholds."),
    ]
    for name, having in shared.items():
        blocks += [Heading(3, name), Picture(name, pictures[name])]
        blocks.append(Items(experiment_notes(having)))
    return blocks


def _cell(text: str) -> str:
    """Return a cell as HTML; a result has its colour."""
    for result, symbol in SYMBOLS.items():
        if text.startswith(f"{symbol} {result}"):
            return f'<b class="{result}">{escape(text)}</b>'
    return escape(text)
