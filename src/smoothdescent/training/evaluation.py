"""Exact losses and accuracies of a network on whole data sets."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

EVALUATION_BATCH = {"cpu": 128, "cuda": 2000}


@torch.no_grad()
def evaluate(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate a network in evaluation mode, and leave its mode as it was.

    Args:
        network: maps [B, C, H, W] to logits.
        images: normalised images, float32 [N, H, W, C].
        labels: int64 [N].

    Returns:
        Cross-entropy in nats, float64 [N], and whether the largest logit is the label's, bool [N].
    """
    was_training = network.training
    network.eval()
    losses, correct = [], []
    batch = EVALUATION_BATCH[images.device.type]
    for image_batch, label_batch in zip(images.split(batch), labels.split(batch), strict=True):
        logits = network(image_batch.permute(0, 3, 1, 2))
        losses.append(functional.cross_entropy(logits, label_batch, reduction="none"))
        correct.append(logits.argmax(1) == label_batch)
    network.train(was_training)
    return torch.cat(losses).double(), torch.cat(correct)
