"""The verdict on the paper's findings: fifteen statements, each computed from the tables.

This module holds the catalogue alone, so that a figure can look up its statements quickly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CONVNET, CIFAR100 = "convnet-cifar10-noise20", "convnet-cifar100"
RESNET, ASYMMETRIC = "resnet18-cifar10-noise20", "convnet-cifar100-asymmetric"
ALL = (CONVNET, CIFAR100, RESNET, ASYMMETRIC)


@dataclass(frozen=True)
class Statement:
    """One of the paper's findings.

    Attributes:
        text: the finding.
        function: `module:function` in this package that decides it for an experiment.
        experiments: the experiments that it is about.
        figures: figures that show it; of a statement about several experiments, one for each.
        statistic: what is computed.
        rule: when it holds and when it fails, in words.
        general: also computed for experiments that are not the paper's.
    """

    text: str
    function: str
    experiments: tuple[str, ...]
    figures: tuple[str, ...]
    statistic: str
    rule: str
    general: bool = False

    def figures_of(self, experiment: str) -> tuple[str, ...]:
        """Return the figures that show the statement for one experiment."""
        if experiment not in self.experiments:
            return ()
        if len(self.experiments) == 1:
            return self.figures
        return (self.figures[self.experiments.index(experiment)],)


_PEAK = (
    "A peak holds if the highest mean beyond some narrower width lies within a factor of two of "
    "the threshold and exceeds both the mean at that width and that at the largest width by more "
    "than the noise between seeds (simultaneous 95 % interval of the height above zero). It fails "
    "if the interval ends below a tenth of the curve's range."
)
_HEIGHT = "height of the peak near the threshold"

STATEMENTS: dict[int, Statement] = {
    1: Statement(
        "Test error against width has a peak near the interpolation threshold and is lower at the "
        "largest width.",
        "widths:test_error_peak",
        (CONVNET,),
        ("figure1",),
        _HEIGHT,
        _PEAK,
        general=True,
    ),
    2: Statement(
        "Jacobian norm and Hessian norm at the training points peak near the threshold and fall "
        "beyond it.",
        "widths:sharpness_peaks_at_points",
        (CONVNET,),
        ("figure2",),
        f"{_HEIGHT}, as a ratio",
        f"Both norms, on a logarithmic scale. {_PEAK}",
        general=True,
    ),
    3: Statement(
        "Jacobian norm and Hessian norm peak near the threshold over every volume.",
        "widths:sharpness_peaks_in_volumes",
        (CONVNET,),
        ("figure2",),
        f"{_HEIGHT}, as a ratio",
        f"Both norms over every volume, on a logarithmic scale. {_PEAK}",
        general=True,
    ),
    4: Statement(
        "Peaks around noisy samples are higher than around clean samples.",
        "widths:noisy_peaks_higher",
        (CONVNET,),
        ("figure3",),
        "ratio of the highest means near the threshold, noisy over clean samples",
        "Both norms over every volume and cross-entropy over volumes k >= 1: the noisy samples' "
        "curve has a peak, and the ratio's interval (paired by run, Bonferroni over the widths "
        f"near the threshold) lies above 1. It fails if an interval lies below 1. {_PEAK}",
        general=True,
    ),
    5: Statement(
        "Accuracy over every volume does not decrease with width past the threshold.",
        "fitting:accuracy_keeps_up",
        (CONVNET,),
        ("figure2",),
        "largest fall of accuracy from a width past the threshold to a larger one",
        "Holds if at every volume the simultaneous 95 % interval of the largest fall ends below "
        "one percentage point; fails if at one volume it does not and lies above zero.",
        general=True,
    ),
    6: Statement(
        "Cross-entropy over volumes k >= 1 shows double descent; at the training points it tends "
        "to zero past the threshold.",
        "fitting:crossentropy_over_volumes",
        (CONVNET,),
        ("figure2", "figure3"),
        f"{_HEIGHT}; ratio of the cross-entropy at the largest width to others",
        "Cross-entropy over every volume k >= 1 has a peak; at the training points, that of the "
        "largest width lies below a hundredth of the highest and below that of the threshold, "
        f"interval included. {_PEAK}",
        general=True,
    ),
    7: Statement(
        "Small models fit clean samples first: below the threshold, accuracy on noisy samples is "
        "near zero.",
        "fitting:clean_first",
        (CONVNET,),
        ("figure3",),
        "largest accuracy on noisy samples at widths below half the threshold",
        "At every width below half the threshold, accuracy on noisy samples lies below 10 % and "
        "below that on clean samples, intervals included. It fails if one of them is reversed.",
        general=True,
    ),
    8: Statement(
        "Past the threshold, test error, cross-entropy and Jacobian norm show double descent over "
        "epochs; below it they do not.",
        "epochs:epochwise_past_threshold",
        (CONVNET,),
        ("figure5",),
        "share of widths with a peak over epochs",
        "For each of the three, more than half the widths past the threshold have a peak over "
        "epochs and at least half the widths below it have none; fails if one is reversed. "
        f"{_PEAK} Over epochs, any but the first and the last may hold the peak.",
        general=True,
    ),
    9: Statement(
        "ResNet18s with Adam, batch norm and augmentation show the same; the test error's peak "
        "comes at or before the threshold.",
        "generality:resnet_shows_the_same",
        (RESNET,),
        ("figure6", "figure8"),
        "statistics of statements 1, 2, 3, 6 and 8; width of the test error's peak",
        "Statements 1, 2, 3, 6 and 8 hold for the ResNet18s, and the bootstrap interval of the "
        "test error's peak ends at or before the threshold. It fails if one fails.",
    ),
    10: Statement(
        "CIFAR-100 without added noise shows the same.",
        "generality:cifar100_shows_the_same",
        (CIFAR100,),
        ("figure4", "figure1"),
        "statistics of statements 1, 2, 3, 5 and 6",
        "Statements 1, 2, 3, 5 and 6 hold on CIFAR-100. It fails if one fails.",
    ),
    11: Statement(
        "Asymmetric noise: the test error shows double descent on unperturbed classes and none on "
        "corrupted classes.",
        "widths:unperturbed_not_corrupted",
        (ASYMMETRIC,),
        ("figure7",),
        _HEIGHT,
        "The test error on unperturbed classes has a peak, and that on corrupted classes fails to "
        f"have one. {_PEAK}",
    ),
    12: Statement(
        "At the paper's full scale the threshold is w = 15 (ConvNet) and w = 18 (ResNet18).",
        "scale:paper_threshold",
        (CONVNET, RESNET),
        ("figure1", "figure6"),
        "interpolation threshold",
        "At the paper's scale alone: holds if the paper's width lies within the bootstrap interval "
        "of the threshold, widened by one step of the grid of widths; fails otherwise.",
    ),
    13: Statement(
        "The rank correlation of test error and mean Jacobian norm across widths past the first "
        "minimum is positive.",
        "correlation:error_follows_jacobian",
        ALL,
        ("figure2", "figure4", "figure6", "figure7"),
        "Spearman's rank correlation of the means over seeds",
        "Holds if the interval lies above zero, fails if it lies below. Resampled: seeds, split at "
        "random into those of the test error and those of the norm.",
        general=True,
    ),
    14: Statement(
        "ResNet18s: over the largest volume, accuracy is lower and sharpness higher than over "
        "smaller ones at every width, and still shows double descent.",
        "generality:largest_volume_is_sharper",
        (RESNET,),
        ("figure6",),
        "smallest contrast between the largest and a smaller volume, over all widths",
        "Accuracy is lower and both norms are higher than over every smaller volume at every "
        "width, intervals of the differences paired by run included, and both norms over the "
        f"largest volume peak. It fails if one is reversed. {_PEAK}",
    ),
    15: Statement(
        "The width at which the Jacobian norm peaks has far fewer parameters than n d.",
        "scale:few_parameters_at_peak",
        ALL,
        ("figure2", "figure4", "figure6", "figure7"),
        "parameters at the peak over n d",
        "Holds if the bootstrap interval of the ratio ends below one tenth, fails if it begins "
        "above. Undecided without a peak.",
        general=True,
    ),
}


def statements_of(figure: str, experiments: Iterable[str]) -> list[tuple[int, str]]:
    """Return the numbers of the statements that a figure shows, each with its experiment.

    Args:
        figure: such as 'figure2'; an experiment that is not the paper's has a figure of its name.
        experiments: those that the figure shows, by name.
    """
    return [
        (number, name)
        for number, statement in STATEMENTS.items()
        for name in experiments
        if figure in statement.figures_of(name) or (figure == name and statement.general)
    ]
