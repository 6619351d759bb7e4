"""The measures of figure 2 for a data set of many classes, its labels as they are. {VOLUMES} See
whether the peaks appear without any label noise.
"""

from smoothdescent.figures.figure2 import draw

__all__ = ["draw"]

EXPERIMENTS = ("convnet-cifar100",)
HEADING = "No added noise, many classes"
QUOTATION = "our findings hold even without artificially corrupted labels"
