"""What a run is trained and evaluated on, in the memory of its device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from smoothdescent.config.schema import Augmentation
from smoothdescent.data.loading import ExperimentData, normalise
from smoothdescent.training.augmentation import pad


@dataclass(frozen=True)
class TrainingData:
    """What a run is trained and evaluated on, on one device.

    Attributes:
        images: normalised training images, float32 [N, H, W, C].
        labels: labels trained on, int64 [N].
        is_noisy: whether the label was replaced, bool [N].
        sample_ids: int64 [N]; augmentation is drawn by them.
        padded: the training images surrounded with black by the augmentation's shift (see
            `augmentation.pad`), if there is an augmentation.
        test_images, test_labels: the test set, float32 [T, H, W, C] and int64 [T].
        corrupted_classes: bool [classes] with asymmetric label noise, else None.
    """

    images: torch.Tensor
    labels: torch.Tensor
    is_noisy: torch.Tensor
    sample_ids: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    corrupted_classes: torch.Tensor | None
    padded: torch.Tensor | None = None


def to_device(
    dataset: ExperimentData, augmentation: Augmentation | None, device: torch.device
) -> TrainingData:
    """Return an experiment's data as they are trained on: channels-last, padded if need be."""
    corrupted = None
    if len(dataset.corrupted_classes):
        corrupted = torch.zeros(dataset.num_classes, dtype=torch.bool, device=device)
        corrupted[dataset.corrupted_classes.to(device)] = True
    images = dataset.train.images.permute(0, 2, 3, 1).contiguous().to(device)
    padded = None
    if augmentation is not None:
        black = normalise(torch.zeros(1, 3, 1, 1), dataset.mean, dataset.std)
        padded = pad(images, augmentation.shift, black.flatten().to(device))
    return TrainingData(
        images=images,
        labels=dataset.train.labels.to(device),
        is_noisy=dataset.train.is_noisy.to(device),
        sample_ids=dataset.train.sample_ids.to(device),
        test_images=dataset.test_images.permute(0, 2, 3, 1).contiguous().to(device),
        test_labels=dataset.test_labels.to(device),
        corrupted_classes=corrupted,
        padded=padded,
    )
