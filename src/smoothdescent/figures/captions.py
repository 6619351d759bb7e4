"""Captions of the figures in the report: what is shown, and what to see."""

_VOLUMES = (
    "Volume 0 is the training point itself, volume k the paths around it up to their k-th "
    "augmentation; bands are one standard deviation over seeds."
)
_CAPTIONS = {
    "figure1": (
        "**Interpolation by spikes or smoothly, and double descent** (the paper's figure 1). "
        "a: a polynomial of high degree fits noisy samples by spikes; b: a wide network passes "
        "through the same samples smoothly. c, d: test error against base width, with the "
        "training error on the right axis. See whether the test error has a local maximum near "
        "the interpolation threshold (dotted) and falls beyond it."
    ),
    "figure2": (
        "**Loss landscape against width** (figure 2): all training samples, at the end of "
        f"training. {_VOLUMES} See whether the Jacobian and Hessian norms peak near the threshold "
        "and fall beyond it, over every volume, while accuracy keeps rising."
    ),
    "figure3": (
        "**Clean and noisy samples** (figure 3): the measures of figure 2 around samples with the "
        "right label (top) and a wrong one (bottom). See whether the peaks around noisy samples "
        "are higher, and whether narrow networks fit clean samples first."
    ),
    "figure4": (
        "**No added noise, many classes** (figure 4): the measures of figure 2 on CIFAR-100. "
        f"{_VOLUMES} See whether the peaks appear without any label noise."
    ),
    "figure5": (
        "**Over epochs** (figure 5): test error, training cross-entropy and Jacobian norm at the "
        "training points over epochs and base widths. Read a column upwards: past the threshold "
        "(dotted) the test error and the norm may rise and fall again, below it they do not."
    ),
    "figure6": (
        "**Residual networks in the settings of practice** (figure 6): batch norm, Adam, shifts "
        f"and flips. a: test error against width; b: the four measures. {_VOLUMES} See whether the "
        "test error peaks at or before the threshold, and the largest volume is the sharpest."
    ),
    "figure7": (
        "**Asymmetric noise** (figure 7): wrong labels in some classes only. a: the four measures "
        "around clean and noisy samples; b: test error on the corrupted and on the unperturbed "
        "classes. See whether only the unperturbed classes show double descent."
    ),
    "figure8": (
        "**Over epochs, residual networks** (figure 8): the heatmaps of figure 5, and the Hessian "
        "norm of both families. See whether sharpness rises and falls again past the threshold."
    ),
}
_OVERVIEW = (
    "**{name}**: test error against width, the four measures of the loss in input space, and the "
    f"heatmaps over epochs. {_VOLUMES}"
)


def caption(figure: str) -> str:
    """Return a figure's caption in reStructuredText."""
    return _CAPTIONS.get(figure, _OVERVIEW.format(name=figure))
