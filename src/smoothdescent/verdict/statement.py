"""What a statement's file says of it: the finding, where to look for it, and what decides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence

CONVNET, CIFAR100 = "convnet-cifar10-noise20", "convnet-cifar100"
RESNET, ASYMMETRIC = "resnet18-cifar10-noise20", "convnet-cifar100-asymmetric"
FIGURES_OF_MEASURES = {
    CONVNET: ("figure2",),
    CIFAR100: ("figure4",),
    RESNET: ("figure6",),
    ASYMMETRIC: ("figure7",),
}
ALL = tuple(FIGURES_OF_MEASURES)

# Words that several rules share.
HEIGHT = "height of the peak near the threshold"
PEAK = (
    "A peak holds if the highest mean beyond some narrower widths lies within a factor of two of "
    "the threshold, and a block of one to three widths there exceeds both such a block before it "
    "and one that ends with the largest width by more than the noise between seeds (lower bound of "
    "the height above zero, whichever block is chosen). It fails if the upper bound shows that a "
    "peak is not visible (a ratio of 1.1, or a tenth of the curve's range), or if there certainly "
    "is a peak elsewhere."
)


@dataclass(frozen=True)
class Statement:
    """One of the paper's findings.

    Attributes:
        text: the finding.
        figures: the figures that show it, for each experiment that it is about.
        statistic: what is computed.
        rule: when it holds and when it fails, in words.
        decide: the same in code; raises TooLittleData if the tables cannot tell.
        general: also decided for experiments that are not the paper's.
    """

    text: str
    figures: dict[str, tuple[str, ...]]
    statistic: str
    rule: str
    decide: Callable[[ExperimentTables], Evidence]
    general: bool = False


def statement(**words: Any) -> Callable[[Callable[[ExperimentTables], Evidence]], Statement]:
    """Make the decorated function a statement: its docstring is the rule, its file's the text.

    Args:
        words: the other attributes of `Statement`. `{PEAK}` in a rule stands for words that several
            share.
    """

    def make(decide: Callable[[ExperimentTables], Evidence]) -> Statement:
        text, rule = (
            " ".join(doc.split())
            for doc in (sys.modules[decide.__module__].__doc__, decide.__doc__)
        )
        return Statement(text=text, rule=rule.format(PEAK=PEAK), decide=decide, **words)

    return make
