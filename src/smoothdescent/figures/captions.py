"""Captions of the figures: what is shown, at which size, what to see, and what is decided.

They are written when a figure is drawn, from the tables that it shows, and so true at every scale.
"""

from __future__ import annotations

import json
from pathlib import Path

from smoothdescent.figures import figure_file, shown_experiments
from smoothdescent.files import read_metadata
from smoothdescent.tables.experiment import ExperimentTables, partial_note
from smoothdescent.verdict.reading import image_side, training_samples
from smoothdescent.verdict.statements import STATEMENTS, statements_of

# `{END}` and `{VOLUMES}` in a caption.
END = (
    "The end of a run is the mean over its final checkpoints; curves are means over seeds, bands "
    "{bands} (of several volumes, of the first and the last), whiskers (of several checkpoints) "
    "one standard deviation within runs."
)
VOLUMES = (
    "Volume 0 is the training point itself, volume k the paths around it up to their k-th "
    f"augmentation. {END}"
)
BANDS = {
    "std": "one standard deviation over seeds",
    "interval": "95 % confidence intervals of the mean over seeds (Student's t)",
}


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
    """Return the caption that a figure was drawn with; before, what it will show.

    Args:
        figure: its name.
        drawn: the numbers that it shows, which hold the caption.
    """
    if drawn is not None and drawn.exists():
        return read_metadata(drawn).get("caption", "")
    return compose(figure, {}, "")


def compose(figure: str, experiments: dict[str, ExperimentTables], verdict: str) -> str:
    """Return a figure's caption, which is both Markdown and reStructuredText.

    Args:
        figure: its name.
        experiments: those that it shows, by name.
        verdict: on the statements that it shows (see `verdict.findings.mark`).
    """
    file = figure_file(figure)
    bands = next((BANDS[experiment.bands] for experiment in experiments.values()), BANDS["std"])
    text = " ".join(file.__doc__.split()).format(END=END, VOLUMES=VOLUMES).format(bands=bands)
    paragraphs = [f"**{file.HEADING}** ({figure}). {text}"]
    if note := partial_note(experiments.values()):
        paragraphs.insert(0, note)
    if experiments:
        paragraphs.append("\n".join(f"- {_size(e)}" for e in experiments.values()))
    if file.QUOTATION:
        paragraphs.append(f'The paper: "{file.QUOTATION}".')
    numbers = sorted({number for number, _ in statements_of(figure, shown_experiments(figure))})
    if numbers:
        paragraphs.append(f"{verdict or 'Statements'}:")
        paragraphs.append("\n".join(f"- {number}: {STATEMENTS[number].text}" for number in numbers))
    return "\n\n".join(paragraphs)


def _size(experiment: ExperimentTables) -> str:
    """Say in one line what was trained, and at which size."""
    history, config = experiment.history, experiment.config
    widths = history["width"].unique()
    parts = [f"{experiment.name}: {experiment.title}"]
    samples, side = training_samples(config), image_side(config)
    if samples:
        parts.append(f"{samples:,} images" + (f" of {side}x{side} pixels" if side else ""))
    parts.append(f"{len(widths)} widths from {widths.min()} to {widths.max()}")
    seeds = history["seed"].nunique()
    parts.append(f"{seeds} seed{'s' * (seeds > 1)}, {history['epoch'].max():,} epochs")
    augmentation = config.get("augmentation")
    if augmentation:
        flips = "and flips" if augmentation["flip"] else "without flips"
        parts.append(f"shifts by up to {augmentation['shift']} pixels {flips}")
    return "; ".join(filter(None, [*parts, experiment.threshold_note]))
