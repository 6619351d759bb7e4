"""Time the sharpness engine against bare network evaluations and a naive implementation.

In one run, slice by slice, so that other work on the machine slows both alike:
- bare: as many forward passes and input gradients as the engine needs, at given points, in the best
  batch size, parameters frozen, with the fastest kernels: PyTorch's in the better memory layout, or
  the compiled ones; nothing else.
- engine: `smoothdescent.sharpness.measure`, all four measures over all volumes.
- naive: one run per measure, each augmenting image by image in a data loader, evaluating both ends
  of every segment, with parameter gradients; timed on fewer images and scaled up. It comes first:
  the engine lets the process keep freed memory, which would help it.

python benchmarks/sharpness.py --widths 4 16
python benchmarks/sharpness.py --widths 4 16 64 --device cuda --images 4096 --slices 4
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from smoothdescent.data.sources import read_source
from smoothdescent.devices import set_threads
from smoothdescent.networks.registry import build
from smoothdescent.sharpness import Paths, ShiftPaths, SVDPaths, Tangent, full_precision, measure

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BATCHES = {"cpu": (32, 64, 192, 640), "cuda": (512, 1024, 2048, 4096, 8192)}
LAYOUTS = (torch.channels_last, torch.contiguous_format)
PAPER_IMAGES = 50_000
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Print one block of results per width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--widths", type=int, nargs="+", default=[4, 16], help="base widths of the ConvNet")
    add("--images", type=int, default=256)
    add("--naive-images", type=int, default=16, help="0: leave the naive implementation out")
    add("--slices", type=int, default=8, help="parts of the images, timed in turn")
    add("--image-size", type=int, default=32)
    add("--paths", choices=("svd", "shift"), default="svd")
    add("--jitters", type=int, default=4)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--memory", help="the engine's memory budget")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor time of this process")
    args = parser.parse_args()

    device = torch.device(args.device)
    set_threads(1)  # the compiled kernels' number
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, 1 thread, {args.clock} time")
    settings = {"seed": 0, "train": args.images, "test": 10, "size": args.image_size}
    data = read_source({"source": "procedural", **settings})
    images, labels = data.train_images, data.train_labels
    networks = {}
    for width in args.widths:
        torch.manual_seed(0)
        network = build("convnet", width=width, num_classes=10, image_size=args.image_size)
        networks[width] = network.to(device)
    naive = {
        width: time_naive(network, images, labels, args) for width, network in networks.items()
    }
    for width, network in networks.items():
        report(network, images, labels, width, args, naive[width])


def clocked(function: Callable[[], None], args: argparse.Namespace) -> float:
    """Return the seconds that a function takes."""
    start = CLOCKS[args.clock]()
    function()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return CLOCKS[args.clock]() - start


def time_naive(
    network: nn.Module, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace
) -> dict[str, float]:
    """Return the seconds of the naive implementation for all images, by measure."""
    count = min(args.naive_images, len(images))
    if not count:
        return {}
    naive = Naive(network, images[:count], labels[:count], *choices(args))
    scale = len(images) / count
    return {kind: clocked(lambda kind=kind: naive.run(kind), args) * scale for kind in Naive.KINDS}


def choices(args: argparse.Namespace) -> tuple[Paths, Tangent]:
    """Return the paths and the jitters that were asked for."""
    paths = svd_paths(args.image_size) if args.paths == "svd" else ShiftPaths()
    return paths, Tangent(jitters=args.jitters)


def report(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    width: int,
    args: argparse.Namespace,
    naive_times: dict[str, float],
) -> None:
    """Time one network and print the results."""
    paths, tangent = choices(args)
    points = 1 + paths.directions * len(paths.strengths)
    per_image = points * (1 + args.jitters)

    def engine(part: slice) -> None:
        settings = {"mean": MEAN, "std": STD, "paths": paths, "tangent": tangent}
        measure(network, images[part], labels[part], memory=args.memory, **settings)

    bounds = np.linspace(0, len(images), args.slices + 1).astype(int)
    parts = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    engine(parts[0])  # warm-up
    batches = BATCHES[args.device]
    # The best batch size is chosen anew in each slice: no favour to the engine.
    bare_times, engine_times, ratios = [], [], []
    runs = [
        BareRun(network, batch, layout, images.shape) for batch in batches for layout in LAYOUTS
    ]
    shortest = {
        run: min(clocked(lambda run=run: run(2 * run.batch), args) for _ in range(3))
        for run in runs
    }
    runs = sorted(runs, key=lambda run: shortest[run] / run.batch)[:2]
    for part in parts:
        count = (part.stop - part.start) * per_image
        bare = min(clocked(lambda run=run, count=count: run(count), args) for run in runs)
        own = clocked(lambda part=part: engine(part), args)
        bare_times.append(bare)
        engine_times.append(own)
        ratios.append(own / bare)
    bare_time = statistics.median(bare_times) * len(parts)
    engine_time = statistics.median(engine_times) * len(parts)
    print(f"\nwidth {width}: {len(images)} images, {per_image} evaluations each")
    print(
        f"  bare    {bare_time:8.2f} s  {len(images) * per_image / bare_time:10,.0f} points/s  "
        f"(batches of {runs[0].batch}, {runs[0].layout})"
    )
    print(f"  engine  {engine_time:8.2f} s  {len(images) / engine_time:10,.1f} images/s")
    print(
        f"  engine / bare: {statistics.median(ratios):.3f} (median of {len(parts)} slices, "
        f"{min(ratios):.3f} to {max(ratios):.3f}), "
        f"{1 / statistics.median(ratios):.0%} of the bare speed"
    )
    if args.device == "cuda":
        seconds = PAPER_IMAGES / len(images) * engine_time
        print(f"  projected: {PAPER_IMAGES:,} images in {seconds:.0f} s")
    if naive_times:
        total = sum(naive_times.values())
        parts_text = " + ".join(f"{seconds:.1f} ({kind})" for kind, seconds in naive_times.items())
        print(f"  naive   {total:8.2f} s = {parts_text}, from {args.naive_images} images")
        print(f"  naive / engine: {total / engine_time:.1f}")


def svd_paths(size: int):
    """Return the specification's SVD paths for images of 32 or 16 pixels."""
    return SVDPaths(4, (5, 10, 15, 20, 22, 25) if size == 32 else (2, 4, 6, 8, 10, 12))


class BareRun:
    """Forward passes and input gradients of a frozen network at one batch of points."""

    def __init__(self, network: nn.Module, batch: int, layout: torch.memory_format, shape: tuple):
        size = shape[1]
        self.batch, self.layout = batch, layout
        self.device = next(network.parameters()).device
        self.network = build(
            "convnet", width=network.linear.in_features // 8, num_classes=10, image_size=size
        )
        self.network.load_state_dict(network.state_dict())
        self.network.to(self.device, memory_format=layout).eval().requires_grad_(False)
        self.network.choose_kernels()
        points = torch.randn(batch, 3, size, size, device=self.device)
        self.points = points.contiguous(memory_format=layout)
        self.labels = torch.randint(10, (batch,), device=self.device)

    def __call__(self, count: int) -> None:
        """Evaluate `count` points."""
        with full_precision(self.device):
            while count > 0:
                size = min(count, self.batch)
                points = self.points[:size].detach().requires_grad_()
                count -= size
                if self.network.input_gradients(points, self.labels[:size]):
                    continue
                loss = F.cross_entropy(self.network(points), self.labels[:size], reduction="sum")
                torch.autograd.grad(loss, points)


class Naive:
    """What one writes first: a run per measure, and a data set that augments image by image."""

    KINDS = ("loss", "accuracy", "jacobian", "hessian")

    def __init__(self, network, images, labels, paths, tangent):
        self.network, self.paths, self.tangent = network, paths, tangent
        self.images = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2) / 255
        self.labels = torch.from_numpy(np.array(labels))
        self.device = next(network.parameters()).device

    def run(self, kind: str) -> None:
        """Evaluate one measure at all anchors of all paths."""
        jitters = self.tangent.jitters if kind == "hessian" else 0
        anchors = Anchors(self.images, self.labels, self.paths, jitters, self.tangent)
        with full_precision(self.device):
            for points, labels in DataLoader(anchors, batch_size=100):
                points, labels = points.flatten(0, 1).to(self.device), labels.to(self.device)
                labels = labels.repeat_interleave(1 + jitters)
                if kind in ("loss", "accuracy"):
                    with torch.no_grad():
                        F.cross_entropy(self.network(points), labels, reduction="none")
                    continue
                points.requires_grad_()
                F.cross_entropy(self.network(points), labels, reduction="sum").backward()
                gradient = points.grad.view(-1, 1 + jitters, points[0].numel())
                (gradient[:, 1:] - gradient[:, :1]).square().sum((1, 2)).sqrt()
                self.network.zero_grad()


class Anchors(Dataset):
    """One end of one segment of one path of one image per entry, decomposed anew each time."""

    def __init__(self, images, labels, paths, jitters, tangent):
        self.images, self.labels, self.paths = images, labels, paths
        self.jitters, self.tangent = jitters, tangent
        self.per_path = 2 * len(paths.strengths)
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.images) * self.paths.directions * self.per_path

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        index, end = divmod(index, self.per_path)
        k = (end + 1) // 2  # segment k joins anchors k and k + 1
        n, p = divmod(index, self.paths.directions)
        image = self.images[n]
        if k and self.paths.family == "svd":
            u, s, vh = torch.linalg.svd(image)
            stop = image.shape[1] - p
            s[:, stop - int(self.paths.strengths[k - 1]) : stop] = 0
            image = u @ torch.diag_embed(s) @ vh
        x = (image - self.mean) / self.std
        points = [x]
        for _ in range(self.jitters):
            u = (self.jitter(image) - self.mean) / self.std - x
            points.append(x + self.tangent.step_size * u)
        return torch.stack(points), self.labels[n]

    def jitter(self, image: torch.Tensor) -> torch.Tensor:
        """Change brightness, contrast and saturation in random order."""
        weights = torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)
        for kind in torch.randperm(3).tolist():
            f = 1 + self.tangent.magnitude * float(2 * torch.rand(()) - 1)
            grey = (weights * image).sum(0, keepdim=True)
            image = f * image + (1 - f) * (0, grey.mean(), grey)[kind]
        return image


if __name__ == "__main__":
    main()
