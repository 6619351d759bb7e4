"""The cross-entropy of logits, and its gradient, in kernels."""

from __future__ import annotations

import math

import numpy as np

from smoothdescent.kernels.layout import inner


@inner
def loss(logits, labels, classes, mean_of, sums):
    """Turn logits into the gradient of the cross-entropy, and add to the sums of a step.

    In float64, which costs nothing and keeps the gradients of a network that interpolates: float32
    rounds 1 - p to a multiple of 6e-8.

    Args:
        logits: [B or more, classes].
        labels: int64 [B].
        classes: number of logits.
        mean_of: images whose losses' mean is meant; 1 for each image's own loss.
        sums: float64 [2]; the loss and the number of correct samples are added.
    """
    for n in range(len(labels)):
        row = logits[n * classes : (n + 1) * classes]
        label, best = labels[n], 0
        for c in range(classes):
            if row[c] > row[best]:
                best = c
        highest = np.float64(row[best])
        total = 0.0
        for c in range(classes):
            total += math.exp(row[c] - highest)
        sums[0] += math.log(total) + highest - row[label]
        sums[1] += best == label
        for c in range(classes):
            share = math.exp(row[c] - highest) / total
            row[c] = (share - (c == label)) / mean_of
