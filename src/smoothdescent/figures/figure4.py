"""Figure 4: the measures of figure 2 on CIFAR-100 without added label noise.

From `sharpness.parquet`; the threshold from `history.parquet`. Claim 10. Cost: about two seconds.
"""

from __future__ import annotations

from smoothdescent.figures.figure2 import VOLUMES, draw

__all__ = ["draw"]

EXPERIMENTS = ("convnet-cifar100",)
HEADING = "No added noise, many classes"
CAPTION = (
    f"The measures of figure 2 on CIFAR-100. {VOLUMES} See whether the peaks appear without "
    "any label noise."
)
QUOTATION = "our findings hold even without artificially corrupted labels"
