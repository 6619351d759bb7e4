"""Captions of the figures in the report: what is shown, what to see, and what is decided."""

from __future__ import annotations

from typing import NamedTuple

from smoothdescent.figures import shown_experiments
from smoothdescent.verdict import STATEMENTS, statements_of


class Caption(NamedTuple):
    """A figure's heading, what it shows and what to see in it, and what the paper saw there."""

    heading: str
    text: str
    quotation: str = ""


_VOLUMES = (
    "Volume 0 is the training point itself, volume k the paths around it up to their k-th "
    "augmentation; bands are one standard deviation over seeds."
)
_CAPTIONS = {
    "figure1": Caption(
        "Spikes or smoothness, and double descent",
        "a: a polynomial of high degree fits noisy samples by spikes; b: a wide network passes "
        "through the same samples smoothly. c, d: test error against base width, with the "
        "training error on the right axis. See whether the test error has a local maximum near "
        "the interpolation threshold (dotted) and falls beyond it.",
        "contrary to intuition, deep networks smoothly interpolate both clean and noisy data",
    ),
    "figure2": Caption(
        "Loss landscape against width",
        f"The four measures around all training samples, at the end of training. {_VOLUMES} See "
        "whether the Jacobian and Hessian norms peak near the threshold and fall beyond it, over "
        "every volume, while accuracy keeps rising.",
        "accuracy over volumes increases monotonically with model size, while crossentropy "
        "follows double descent",
    ),
    "figure3": Caption(
        "Clean and noisy samples",
        "The measures of figure 2 around samples with the right label (top) and a wrong one "
        "(bottom). See whether the peaks around noisy samples are higher, and whether narrow "
        "networks fit clean samples first.",
        "sharp interpolation is observed for both clean and noisy samples, with crossentropy, "
        "sensitivity (Jacobian norm) and curvature peaking over all volumes considered",
    ),
    "figure4": Caption(
        "No added noise, many classes",
        f"The measures of figure 2 on CIFAR-100. {_VOLUMES} See whether the peaks appear without "
        "any label noise.",
        "our findings hold even without artificially corrupted labels",
    ),
    "figure5": Caption(
        "Over epochs",
        "Test error, training cross-entropy and Jacobian norm at the training points over epochs "
        "and base widths. Read a column upwards: see whether, past the threshold (dotted), the "
        "three rise and fall again, and do not below it.",
        "Models past the interpolation threshold (base width w = 15) undergo epoch-wise double "
        "descent for each metric",
    ),
    "figure6": Caption(
        "Residual networks in the settings of practice",
        "Batch norm, Adam, shifts and flips. a: test error against width; b: the four measures. "
        f"{_VOLUMES} See whether the test error peaks at or before the threshold, and the largest "
        "volume is the sharpest.",
        "the largest integration volume considered [...] now shows considerably increased "
        "sharpness and loss curvature, while still undergoing double descent",
    ),
    "figure7": Caption(
        "Asymmetric noise",
        "Wrong labels in some classes only. a: the four measures around clean and noisy samples; "
        "b: test error on the unperturbed classes and, on the right axis, in the same scale, on "
        "the corrupted ones. See whether only the unperturbed classes show double descent.",
        "double descent for the test error can still be observed for the unperturbed classes, "
        "while the trend disappears for the corrupted classes",
    ),
    "figure8": Caption(
        "Over epochs, residual networks",
        "The heatmaps of figure 5 for the residual networks, and the Hessian norm of both "
        "families. See whether sharpness rises and falls again past the threshold.",
        "Both model-wise and epoch-wise trends reported for the ConvNets also hold for this setup",
    ),
}
_OVERVIEW = Caption(
    "An experiment beside the paper's",
    "a: test error against width, with the training error on the right axis; b: the four measures "
    f"of the loss in input space; c: heatmaps over epochs. {_VOLUMES}",
)


def heading(figure: str) -> str:
    """Return in a few words what a figure shows."""
    return _CAPTIONS.get(figure, _OVERVIEW).heading


def caption(figure: str) -> str:
    """Return a figure's caption in reStructuredText, with the statements of its verdict."""
    found = _CAPTIONS.get(figure, _OVERVIEW)
    paragraphs = [f"**{found.heading}** ({figure}). {found.text}"]
    if found.quotation:
        paragraphs.append(f'The paper: "{found.quotation}".')
    numbers = sorted({number for number, _ in statements_of(figure, shown_experiments(figure))})
    paragraphs.append("The line *Verdict* above the figure is about these statements:")
    paragraphs.append("\n".join(f"- {number}: {STATEMENTS[number].text}" for number in numbers))
    return "\n\n".join(paragraphs)
