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
ALL = (CONVNET, CIFAR100, RESNET, ASYMMETRIC)

# Words that several rules share.
HEIGHT = "height of the peak near the threshold"
PEAK = (
    "A peak holds if the highest mean beyond some narrower width lies within a factor of two of "
    "the threshold and exceeds both the mean at that width and that at the largest width by more "
    "than the noise between seeds (simultaneous 95 % interval of the height above zero). It fails "
    "if the interval ends below a tenth of the curve's range."
)


@dataclass(frozen=True)
class Statement:
    """One of the paper's findings; called with an experiment's tables, it returns the evidence.

    Attributes:
        text: the finding.
        experiments: the experiments that it is about.
        figures: figures that show it; of a statement about several experiments, one for each.
        statistic: what is computed.
        rule: when it holds and when it fails, in words.
        decide: the same in code; raises TooLittleData if the tables cannot tell.
        general: also decided for experiments that are not the paper's.
    """

    text: str
    experiments: tuple[str, ...]
    figures: tuple[str, ...]
    statistic: str
    rule: str
    decide: Callable[[ExperimentTables], Evidence]
    general: bool = False

    def __call__(self, experiment: ExperimentTables) -> Evidence:
        return self.decide(experiment)

    def figures_of(self, experiment: str) -> tuple[str, ...]:
        """Return the figures that show the statement for one experiment."""
        if experiment not in self.experiments:
            return ()
        if len(self.experiments) == 1:
            return self.figures
        return (self.figures[self.experiments.index(experiment)],)


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
