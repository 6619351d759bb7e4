"""Captions of the figures in the report: what is shown, what to see, and what is decided."""

from __future__ import annotations

import json
from pathlib import Path

from smoothdescent.figures import figure_file, shown_experiments
from smoothdescent.files import read_metadata
from smoothdescent.verdict.statements import STATEMENTS, statements_of

# `{END}` and `{VOLUMES}` in a caption.
END = (
    "The end of a run is the mean over its final checkpoints; curves are means over seeds, bands "
    "one standard deviation over seeds, whiskers (of several checkpoints) one within runs."
)
VOLUMES = (
    "Volume 0 is the training point itself, volume k the paths around it up to their k-th "
    f"augmentation. {END}"
)


def heading(figure: str) -> str:
    """Return in a few words what a figure shows."""
    return figure_file(figure).HEADING


def made_with(table: Path) -> str:
    """Return what an experiment's table was made with: devices, and versions of libraries."""
    metadata = read_metadata(table)
    trained = ", ".join(json.loads(metadata.get("training_versions", '["unknown versions"]')))
    devices = ", ".join(json.loads(metadata["training_devices"]))
    versions = json.loads(metadata["library_versions"])
    gathered = ", ".join(f"{name} {version}" for name, version in versions.items())
    program = metadata["smoothdescent_version"]
    return f"Trained with {trained} on {devices}. Gathered by smoothdescent {program}: {gathered}."


def caption(figure: str, drawn: Path | None = None) -> str:
    """Return a figure's caption in reStructuredText, with the verdict on its statements.

    Args:
        figure: its name.
        drawn: the numbers that it shows, with the verdict on them, which is left out without.
    """
    file = figure_file(figure)
    text = " ".join(file.__doc__.split()).format(END=END, VOLUMES=VOLUMES)
    paragraphs = [f"**{file.HEADING}** ({figure}). {text}"]
    if file.QUOTATION:
        paragraphs.append(f'The paper: "{file.QUOTATION}".')
    numbers = sorted({number for number, _ in statements_of(figure, shown_experiments(figure))})
    if numbers:
        verdict = read_metadata(drawn).get("verdict") if drawn and drawn.exists() else ""
        paragraphs.append(f"{verdict or 'Statements'}:")
        paragraphs.append("\n".join(f"- {number}: {STATEMENTS[number].text}" for number in numbers))
    return "\n\n".join(paragraphs)
