"""Random shifts and flips of whole batches, on the device of the images.

The usual recipe for CIFAR: pad with black, crop the old size at a random place, flip with
probability 1/2. The padding is done once, the draws of an epoch at once, and a batch is then one
gather, without a copy to or from the host. A sample's draw depends on (seed, epoch, sample) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from smoothdescent.randomness import sample_uniforms


@dataclass(frozen=True)
class Crops:
    """Where each sample is cropped in one epoch: `top` and `left` int64 [N], `flipped` bool [N]."""

    top: torch.Tensor
    left: torch.Tensor
    flipped: torch.Tensor

    def copy_(self, other: Crops) -> None:
        """Put other crops in the place of these."""
        for name in ("top", "left", "flipped"):
            getattr(self, name).copy_(getattr(other, name))


def pad(images: torch.Tensor, shift: int, black: torch.Tensor) -> torch.Tensor:
    """Surround images with black.

    Args:
        images: normalised, [N, H, W, C].
        shift: s, pixels on each side.
        black: [C], the normalised value of a black pixel.

    Returns:
        [N, H + 2 s, W + 2 s, C].
    """
    count, height, width, _ = images.shape
    padded = black.repeat(count, height + 2 * shift, width + 2 * shift, 1)
    padded[:, shift : shift + height, shift : shift + width] = images
    return padded


def draw_crops(seed: int, epoch: int, sample_ids: torch.Tensor, *, shift: int, flip: bool) -> Crops:
    """Draw the crops of one epoch: offsets uniform in 0..2 s, flips with probability 1/2.

    Args:
        seed: the training seed.
        epoch: epochs completed.
        sample_ids: int64 [N].
        shift: s.
        flip: whether any image is flipped.
    """
    uniforms = sample_uniforms(seed, "augmentation", epoch, sample_ids=sample_ids, count=3)
    offsets = (uniforms[:, :2] * (2 * shift + 1)).long()
    return Crops(offsets[:, 0], offsets[:, 1], (uniforms[:, 2] < 0.5) & flip)


def crop(padded: torch.Tensor, chosen: torch.Tensor, crops: Crops, shift: int) -> torch.Tensor:
    """Return the augmented images of a batch.

    Args:
        padded: what `pad` returned, contiguous.
        chosen: int64 [B], positions in `padded`.
        crops: of all N samples.
        shift: s, as padded.

    Returns:
        [B, H, W, C], contiguous.
    """
    _, padded_height, padded_width, channels = padded.shape
    height, width = padded_height - 2 * shift, padded_width - 2 * shift
    rows = (chosen * padded_height + crops.top[chosen])[:, None] + torch.arange(
        height, device=padded.device
    )
    column = torch.arange(width, device=padded.device)
    columns = torch.where(crops.flipped[chosen][:, None], column.flip(0), column)
    columns = columns + crops.left[chosen][:, None]
    index = rows[:, :, None] * padded_width + columns[:, None, :]
    pixels = padded.view(-1, channels).index_select(0, index.view(-1))
    return pixels.view(len(chosen), height, width, channels)
