"""All measures over all volumes in one pass over the samples (sections 3.1 to 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from smoothdescent.devices import keep_pages
from smoothdescent.errors import UserError
from smoothdescent.progress import log
from smoothdescent.sharpness.gradients import Evaluation, FrozenNetwork, check_labels, freeze
from smoothdescent.sharpness.inputs import CheckedSamples, check_samples
from smoothdescent.sharpness.measures import Measure, find_measures
from smoothdescent.sharpness.paths import Paths, SVDPaths, augmented_images
from smoothdescent.sharpness.planning import Plan, parse_memory, plan
from smoothdescent.sharpness.precision import full_precision, wide_dtype
from smoothdescent.sharpness.tangent import NormalisedImages, Tangent, jitter_coefficients
from smoothdescent.sharpness.volumes import segment_lengths, volume_integrals
from smoothdescent.tables.columns import STANDARD_MEASURES

if TYPE_CHECKING:
    import pyarrow as pa


def measure(
    network: nn.Module,
    images: Any,
    labels: Any = None,
    sample_ids: Any = None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    paths: Paths | None = None,
    tangent: Tangent | None = None,
    volumes: int | None = None,
    measures: Sequence[str] = STANDARD_MEASURES,
    layout: str | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    memory: int | str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> pa.Table:
    """Measure how sharply a classifier's loss changes around samples.

    The loss is the cross-entropy with the given labels, a function of the normalised image. Each
    sample's base image and every point of its paths is evaluated once; its M tangent points as
    well, if a measure needs them.

    Args:
        network: maps normalised images [B, C, H, W] to logits [B, classes]. A copy is evaluated, in
            evaluation mode; the network itself is left exactly as it is.
        images: uint8 (0 to 255) or floating-point ([0,1]) array or tensor, [N, C, H, W] or
            [N, H, W, C], before normalisation; or an iterable of batches (images, labels) or
            (images, labels, sample_ids), such as a DataLoader.
        labels: int [N], the labels trained on; None if `images` is an iterable.
        sample_ids: int [N], each once; the jitters belong to (seed, sample id). The default
            numbers the samples as they come.
        mean, std: per channel; the network takes (image - mean) / std.
        paths: path family with its directions and strengths; default `SVDPaths()`.
        tangent: number, magnitude and step of the colour jitters; default `Tangent()`.
        volumes: measure volumes 0 to this number; None: all K of them.
        measures: registered measures or import paths, see `find_measures`; the table's columns.
        layout: `NCHW` or `NHWC`; the default tells by which axis has as many entries as `mean`.
        seed: seed of the jitters.
        device: where to compute; default: where the network's parameters are.
        dtype: torch.float32 or torch.float64.
        memory: budget in bytes, or a text such as "512MiB", for all that is held besides the
            network, the data and the table; default 1 GiB, on a GPU a quarter of what is free. If
            a device has less, batches are halved.
        progress: called as progress(samples done, samples in all or None).

    Returns:
        A table with one row per (sample, volume), in the order of the samples: `sample_id` (int64),
        `volume` (int16), one float64 column per measure, and `path_length` (float64), the mean over
        directions of the length of the first `volume` segments. Measures at volumes k >= 1 are
        averages over the volume (equation 6). `hessian_sumsq` is, at volume 0, the raw sum of
        equation 5; at volume k, the square of the average of its root: see `hessian_norm`.

    Raises:
        UserError: an argument is wrong, or the network cannot be measured (`networks.contract`);
            both are checked before any measurement, an iterable's batches as they come.
    """
    import pyarrow as pa

    paths = SVDPaths() if paths is None else paths
    tangent = Tangent() if tangent is None else tangent
    chosen = find_measures(measures)
    device = _find_device(network, device, dtype)
    budget = parse_memory(memory, device)
    paths = _first_volumes(paths, volumes)
    _check_normalisation(mean, std)
    keep_pages(device)

    columns: list[dict[str, np.ndarray]] = []
    engine = None
    done, total = 0, len(images) if hasattr(images, "shape") else None
    with full_precision(device):
        for samples in check_samples(images, labels, sample_ids, len(mean), layout):
            first = engine is None
            if first:
                engine = _Engine(
                    network, samples, mean, std, paths, tangent, chosen, seed, device, dtype, budget
                )
            engine.check(samples)
            if first:
                engine.frozen.check(engine.example, f"network {type(network).__name__}")
            stop = 0
            while stop < len(samples):
                start = stop
                chunk, stop = engine.measure_some(samples, start)
                columns.append(chunk)
                done += stop - start
                if progress is not None:
                    progress(done, total)
    if not columns:
        raise UserError("images yielded no batch; expected at least one")
    return pa.table({name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


class _Engine:
    """Measures chunks of samples of one shape with one network."""

    def __init__(
        self,
        network: nn.Module,
        samples: CheckedSamples,
        mean: Sequence[float],
        std: Sequence[float],
        paths: Paths | None,
        tangent: Tangent,
        measures: list[Measure],
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        budget: int,
    ):
        self.shape = samples.shape
        self.paths, self.measures = paths, measures
        self.tangent = tangent if any(measure.tangent for measure in measures) else None
        self.seed, self.device, self.dtype = seed, device, dtype
        self._halved = False  # the plan, for want of memory
        channels, height, width = self.shape
        self.normalised = NormalisedImages(mean, std, height * width, dtype, device)
        self.example = self._probe(samples)
        self.frozen: FrozenNetwork = freeze(network, device, dtype, self.example)
        self.plan: Plan = plan(
            budget,
            device,
            saved_bytes=self.frozen.saved_bytes,
            fixed_bytes=self.frozen.fixed_bytes,
            block=self.frozen.block,
            image_bytes=channels * height * width * dtype.itemsize,
            points_per_sample=1 + (paths.directions * len(paths.strengths) if paths else 0),
            inputs_per_point=1 + (tangent.jitters if self.tangent else 0),
        )

    def _probe(self, samples: CheckedSamples) -> torch.Tensor:
        """Return the first image, [1, C, H, W], once all that can fail on images was tried."""
        flat = samples.flat_images(0, 1, self.device, self.dtype)
        if self.tangent:
            self._coefficients(samples.sample_ids[:1])
        if self.paths:
            augmented_images(self._images(flat), self.paths)
        return self._images(self.normalised(flat))

    def check(self, samples: CheckedSamples) -> None:
        """Check that samples go with the network and with the first ones."""
        if samples.shape != self.shape:
            raise UserError(
                f"images has channels, height and width {samples.shape} in one batch and "
                f"{self.shape} in the first; expected one size"
            )
        check_labels(samples.labels, self.frozen.classes)

    def measure_some(
        self, samples: CheckedSamples, start: int
    ) -> tuple[dict[str, np.ndarray], int]:
        """Return the table's columns for samples from `start` on, and where they stop.

        Raises:
            UserError: the device's memory does not hold a single sample and input.
        """
        while True:
            stop = min(start + self.plan.samples, len(samples))
            try:
                return self._measure(samples, start, stop), stop
            except torch.OutOfMemoryError:
                smaller = self.plan.halved()
                if smaller == self.plan:
                    raise UserError(
                        f"device {self.device} is out of memory for one sample and one input of "
                        "the network; expected a device with more free memory"
                    ) from None
                if not self._halved:
                    log(f"device {self.device} is out of memory; measuring in smaller batches")
                self.plan, self._halved = smaller, True
            # Others use the device too, or the network needs more than it stores.
            torch.cuda.empty_cache()

    def _measure(self, samples: CheckedSamples, start: int, stop: int) -> dict[str, np.ndarray]:
        """Return the table's columns for samples start..stop."""
        base = samples.flat_images(start, stop, self.device, self.dtype)
        sample_ids = samples.sample_ids[start:stop]
        count = len(base)
        augmented, lengths = self._augment(base)  # [n, P, K, D] in pixel space, [n, P, K]
        labels = samples.labels[start:stop].to(self.device)
        coefficients = self._coefficients(sample_ids) if self.tangent else None

        values: list[list[torch.Tensor]] = [[] for _ in self.measures]
        for points in (base, augmented.flatten(0, 2)):
            each = len(points) // count
            its_labels = labels.repeat_interleave(each)
            its_coefficients = (
                None if coefficients is None else coefficients.repeat_interleave(each, 0)
            )
            for first in range(0, len(points), self.plan.points):
                part = slice(first, first + self.plan.points)
                evaluation = self._evaluate(
                    points[part],
                    its_labels[part],
                    None if its_coefficients is None else its_coefficients[part],
                )
                for measured, column in zip(self.measures, values, strict=True):
                    column.append(measured.function(evaluation).to(lengths))
        steps = lengths.shape[2]
        result = {
            "sample_id": np.repeat(sample_ids.numpy(), steps + 1),
            "volume": np.tile(np.arange(steps + 1, dtype=np.int16), count),
        }
        for measured, column in zip(self.measures, values, strict=True):
            integrals = self._integrate(measured, torch.cat(column), lengths)
            result[measured.name] = integrals.cpu().numpy().astype(np.float64).ravel()
        distances = torch.nn.functional.pad(lengths.cumsum(dim=2).mean(dim=1), (1, 0))
        result["path_length"] = distances.cpu().numpy().astype(np.float64).ravel()
        return result

    def _augment(self, base: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return flat pixel images [n, P, K, D] and, normalised, segment lengths [n, P, K]."""
        if self.paths is None:
            lengths = base.new_zeros(len(base), 1, 0, dtype=wide_dtype(self.device))
            return base.new_empty(len(base), 1, 0, base.shape[1]), lengths
        augmented = augmented_images(self._images(base), self.paths)
        augmented = augmented.permute(0, 1, 2, 4, 5, 3).flatten(3)
        lengths = []
        for path in augmented.split(1, dim=1):  # one at a time stays near the caches
            points = torch.cat([base[:, None, None], path], dim=2).div_(self.normalised.std)
            lengths.append(segment_lengths(points))
        return augmented, torch.cat(lengths, dim=1)

    def _coefficients(self, sample_ids: torch.Tensor) -> torch.Tensor:
        """Return the samples' jitters times the step: [n, M, 3]."""
        drawn = jitter_coefficients(
            sample_ids, self.tangent, seed=self.seed, channels=self.shape[0]
        )
        return (self.tangent.factor * drawn).to(self.device, self.dtype)

    def _evaluate(
        self, pixels: torch.Tensor, labels: torch.Tensor, coefficients: torch.Tensor | None
    ) -> Evaluation:
        """Evaluate flat pixel images [g, D] and, given coefficients [g, M, 3], tangent points."""
        if coefficients is None:
            points = self._images(self.normalised(pixels))
            return self.frozen.evaluate(points, labels, self.plan.inputs)
        inputs = self.normalised.with_tangents(pixels, coefficients)
        each = inputs.shape[1]
        found = self.frozen.evaluate(
            self._images(inputs.flatten(0, 1)), labels.repeat_interleave(each), self.plan.inputs
        )
        gradient = found.gradient.unflatten(0, (-1, each))
        return Evaluation(
            points=found.points[::each],
            labels=labels,
            logits=found.logits[::each],
            gradient=gradient[:, 0],
            tangent_gradients=gradient[:, 1:],
        )

    def _integrate(
        self, measured: Measure, values: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return a measure over all volumes, [n, K+1].

        Args:
            values: at the n base images, then at the points of their paths, [n + n P K].
            lengths: of segments, [n, P, K].
        """
        base, along = values.split([len(lengths), lengths.numel()])
        starts = base[:, None, None].expand(-1, lengths.shape[1], 1)
        along = torch.cat([starts, along.view_as(lengths)], dim=2)
        if not measured.squared:
            return volume_integrals(along, lengths)
        integrals = volume_integrals(along.sqrt(), lengths) ** 2
        integrals[:, 0] = base
        return integrals

    def _images(self, flat: torch.Tensor) -> torch.Tensor:
        """View flat images [n, H W C] as [n, C, H, W]."""
        channels, height, width = self.shape
        return flat.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _first_volumes(paths: Paths, volumes: int | None) -> Paths | None:
    """Return the paths up to a volume; None if only the base image is measured."""
    steps = len(paths.strengths)
    if volumes is None:
        return paths
    if not 0 <= volumes <= steps:
        raise UserError(f"volumes is {volumes}; expected 0 to {steps}, the number of strengths")
    if volumes == 0:
        return None
    return Paths(paths.family, paths.directions, paths.strengths[:volumes])


def _find_device(
    network: nn.Module, device: torch.device | str | None, dtype: torch.dtype
) -> torch.device:
    if dtype not in (torch.float32, torch.float64):
        raise UserError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
    if device is None:
        parameter = next(network.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device is {device!r}; expected one such as 'cpu' or 'cuda:0'") from error
    if device.type == "mps" and dtype == torch.float64:
        raise UserError("dtype is torch.float64, which device mps lacks; expected torch.float32")
    try:
        torch.empty(1, dtype=dtype, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {device} cannot be used with {dtype}: {error}") from error
    return device


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != len(std) or not all(np.isfinite(mean)) or not all(0 < s < np.inf for s in std):
        raise UserError(
            f"mean is {tuple(mean)} and std {tuple(std)}; expected one finite number for each "
            "channel, and std positive"
        )
