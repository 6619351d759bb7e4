"""Time the training engine against two plain training loops.

In one run, slice by slice, so that other work on the machine slows all alike:
- naive: a data loader that normalises and augments image by image, a network as one writes it
  (plain PyTorch modules, ReLU before pooling), the default optimiser, the loss read at each step.
- plain: the good plain loop. The same network, in the faster memory layout (channels-last or
  channels-first), the data in memory on the device, whole batches augmented at once, fused
  optimiser, nothing read back inside an epoch.
- engine: `smoothdescent.training.engine.train`, as the workflow calls it.
All train on one CPU thread, or on one GPU, in the same precision and from the same weights.

Beside them: the floating-point operations of a training step per image (a multiplication and an
addition are two; convolutions and matrix products, forward and backward, of the plain network), and
what fraction of the rate of a large matrix product, measured between the slices, each loop
reaches by that count. An engine that leaves out operations whose result is zero may exceed it.

python benchmarks/train.py
python benchmarks/train.py --widths 1 2 4 8 --image-size 16 --seconds 20
python benchmarks/train.py --device cuda --seconds 30
python benchmarks/train.py --device cuda --seconds 30 --precision tf32
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from smoothdescent.config.schema import Experiment
from smoothdescent.data.sources import read_source
from smoothdescent.devices import prepare_training, tf32
from smoothdescent.kernels.batch_norm import ConvNorm
from smoothdescent.networks.registry import build, count_parameters
from smoothdescent.training.augmentation import crop, draw_crops, pad
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.run import new_run
from smoothdescent.training.step import Step, choose_kernels

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SHIFT = 4
CLASSES = 10
SETTINGS = {
    "convnet": {"optimizer": {"name": "sgd", "learning_rate": 0.005}},
    "resnet18": {
        "optimizer": {"name": "adam", "learning_rate": 1e-4},
        "augmentation": {"shift": SHIFT, "flip": True},
    },
}
LOOPS = ("naive loop", "good plain loop", "this engine")
SLICES = 5
MATRIX = {"cpu": 1024, "cuda": 4096}
MOST_STEPS = {"cpu": 64, "cuda": 400}  # in a slice, so that the data stay small
WARM_UPS = {"cpu": 1, "cuda": 4}  # slices that are not counted: compiling, choosing and capturing


def main() -> None:
    """Print one line per family and width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--families", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--widths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="base widths")
    add("--image-size", type=int, default=32, help="a multiple of 8 (default: %(default)s)")
    add("--batch-size", type=int, default=128)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--seconds", type=float, default=15, help="spent on each network, about")
    add("--precision", choices=("float32", "tf32"), default="float32")
    add("--plot", help="draw the images per second into this file")
    args = parser.parse_args()

    device = torch.device(args.device)
    prepare_training(device, 1)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, 1 thread"
    print(
        f"torch {torch.__version__}, {name}, images of {args.image_size} pixels, "
        f"batches of {args.batch_size}, {args.precision}, median of {SLICES} slices\n"
        "                         images/s                engine /         MFLOP  of matmul rate\n"
        "family   width     naive     plain    engine  naive  plain    / image  plain  engine  "
        "GFLOP/s"
    )
    with tf32(args.precision == "tf32"):
        rates = {
            family: {width: report(family, width, device, args) for width in args.widths}
            for family in args.families
        }
    for family, lines in rates.items():
        loops = zip(*lines.values(), strict=True)
        naive, plain, engine = (sum(1 / rate for rate in loop) for loop in loops)
        print(
            f"{family:8}   all {' ' * 29}  {naive / engine:5.2f}  {plain / engine:5.2f}  "
            "(one image at each width)"
        )
    if args.plot:
        plot(rates, name, args)


def plot(
    rates: dict[str, dict[int, tuple[float, ...]]], name: str, args: argparse.Namespace
) -> None:
    """Draw images per second against width, a panel for each family."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rates), figsize=(4.5 * len(rates), 3.5), squeeze=False)
    for axis, (family, lines) in zip(axes[0], rates.items(), strict=True):
        for loop, values in zip(LOOPS, zip(*lines.values(), strict=True), strict=True):
            axis.loglog(list(lines), values, "o-", label=loop)
        axis.set(title=family, xlabel="base width w", ylabel="images/s")
        axis.set_xticks(list(lines), map(str, lines), minor=False)
        axis.minorticks_off()
        axis.legend()
    size = f"{args.image_size}x{args.image_size} pixels"
    figure.suptitle(f"{name}, {size}, batches of {args.batch_size}, {args.precision}")
    figure.tight_layout()
    figure.savefig(args.plot, dpi=150)


def report(
    family: str, width: int, device: torch.device, args: argparse.Namespace
) -> tuple[float, ...]:
    """Time one network, print its line, and return the images per second of each loop."""
    flops = flops_per_image(family, width, device, args)
    # A slice is an epoch of the engine: the data set is as large as shall be trained in one.
    trial = plain_loop(family, width, device, args, steps=4)
    clocked(trial, device)
    per_step = clocked(trial, device) / 4
    steps = round(args.seconds / (4 * SLICES * per_step))
    steps = min(max(steps, 1), MOST_STEPS[device.type])
    setup = (family, width, device, args, steps)
    loops = {
        "naive": naive_loop(*setup),
        "channels_last": plain_loop(*setup),
        "channels_first": plain_loop(*setup, layout=torch.contiguous_format),
        "engine": engine_loop(*setup),
    }
    for loop in loops.values():
        for _ in range(WARM_UPS[device.type]):
            loop()
    times: dict[str, list[float]] = {name: [] for name in loops}
    rates = []
    for _ in range(SLICES):
        for name, loop in loops.items():
            times[name].append(clocked(loop, device))
        rates.append(matmul_rate(device))
    images = steps * args.batch_size
    medians = {name: statistics.median(times[name]) for name in loops}
    layout = min("channels_last", "channels_first", key=medians.get)
    naive, plain, engine = (images / medians[name] for name in ("naive", layout, "engine"))
    ratios = [
        statistics.median(a / b for a, b in zip(times[name], times["engine"], strict=True))
        for name in ("naive", layout)
    ]
    rate = statistics.median(rates)
    print(
        f"{family:8} {width:5} {naive:9,.0f} {plain:9,.0f} {engine:9,.0f}  {ratios[0]:5.2f}  "
        f"{ratios[1]:5.2f}  {flops / 1e6:9,.2f}  {plain * flops / rate:5.1%}  "
        f"{engine * flops / rate:6.1%}  {rate / 1e9:7,.0f}",
        flush=True,
    )
    return naive, plain, engine


def naive_loop(
    family: str, width: int, device: torch.device, args: argparse.Namespace, steps: int
) -> Callable[[], None]:
    """Return a function that trains `steps` steps as one first writes it."""
    loader = DataLoader(Images(family, args, steps), batch_size=args.batch_size, shuffle=True)
    network = plain_network(family, width, args.image_size).to(device)
    optimizer = plain_optimizer(family, network)

    def run() -> None:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()

    return run


def plain_loop(
    family: str,
    width: int,
    device: torch.device,
    args: argparse.Namespace,
    steps: int,
    layout: torch.memory_format = torch.channels_last,
) -> Callable[[], None]:
    """Return a function that trains `steps` steps, everything in memory, in a memory layout."""
    data = training_data(family, args, steps, device)
    network = plain_network(family, width, args.image_size)
    network = network.to(device, memory_format=layout)
    optimizer = plain_optimizer(family, network, fused=True)
    augmentation = SETTINGS[family].get("augmentation")
    losses = torch.zeros((), device=device)
    epoch = 0

    def run() -> None:
        nonlocal epoch
        crops = augmentation and draw_crops(0, epoch, data.sample_ids, **augmentation)
        order = torch.randperm(len(data.labels)).to(device)
        for batch in order.split(args.batch_size):
            if augmentation:
                images = crop(data.padded, batch, crops, SHIFT)
            else:
                images = data.images.index_select(0, batch)
            images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
            loss = functional.cross_entropy(network(images), data.labels.index_select(0, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.add_(loss.detach())
        losses.item()
        epoch += 1

    return run


def engine_loop(
    family: str, width: int, device: torch.device, args: argparse.Namespace, steps: int
) -> Callable[[], None]:
    """Return a function that trains `steps` steps by the engine, without evaluations."""
    experiment = Experiment(
        data={"dataset": "procedural"},
        network=family,
        batch_size=args.batch_size,
        widths=[width],
        seeds=[0],
        epochs=10**6,
        evaluate_every=10**6,
        precision=args.precision,
        measure={"paths": {"family": "shift"}},
        **SETTINGS[family],
    )
    data = training_data(family, args, steps, device)
    shape = {"num_classes": CLASSES, "image_size": args.image_size}
    run = new_run(experiment, width=width, seed=0, device=device, **shape)
    choose_kernels(run, data, experiment, width=width, **shape)
    run.history.append({"epoch": 0})  # else the untrained network is evaluated
    step = Step(run, data, experiment)

    def next_epoch() -> None:
        train(run, data, experiment, seed=0, until=run.epoch + 1, evaluate_at=set(), step=step)

    return next_epoch


def plain_network(family: str, width: int, image_size: int) -> nn.Module:
    """Return the network in plain PyTorch modules."""
    torch.manual_seed(0)
    network = build(family, width=width, num_classes=CLASSES, image_size=image_size)
    if family == "convnet":
        layers: list[nn.Module] = []
        for stage, convolution in enumerate(network.convolutions):
            layers += [convolution, nn.ReLU(), *([nn.MaxPool2d(2)] if stage else [])]
        layers += [nn.MaxPool2d(image_size // 8), nn.Flatten(), network.linear]
        plain = nn.Sequential(*layers)
    else:
        plain = network
        for module in list(plain.modules()):
            for name, child in module.named_children():
                if isinstance(child, ConvNorm):
                    skip = nn.AvgPool2d(1, child.skip) if child.skip > 1 else nn.Identity()
                    setattr(module, name, nn.Sequential(skip, child.convolution, child.norm))
    expected = build(family, width=width, num_classes=CLASSES, image_size=image_size)
    assert count_parameters(plain) == count_parameters(expected)
    return plain.train()


def plain_optimizer(family: str, network: nn.Module, **options) -> torch.optim.Optimizer:
    """Return the family's optimiser."""
    rate = SETTINGS[family]["optimizer"]["learning_rate"]
    if family == "convnet":
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, **options)
    return torch.optim.Adam(network.parameters(), lr=rate, **options)


def pixels(args: argparse.Namespace, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images for `steps` steps, uint8 [N, H, W, C], and labels [N]."""
    count = steps * args.batch_size
    # Drawing images takes long, and their number does not change what a step costs.
    drawn = min(count, 2048)
    size = {"train": drawn, "test": CLASSES, "size": args.image_size, "classes": CLASSES}
    data = read_source({"source": "procedural", "seed": 0, **size})
    chosen = torch.arange(count) % drawn
    images, labels = torch.as_tensor(data.train_images), torch.as_tensor(data.train_labels)
    return images[chosen], labels[chosen].long()


def training_data(
    family: str, args: argparse.Namespace, steps: int, device: torch.device
) -> TrainingData:
    """Return the data in memory."""
    images, labels = pixels(args, steps)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    images = ((images / 255 - mean) / std).to(device)
    augmented = "augmentation" in SETTINGS[family]
    return TrainingData(
        images=images,
        labels=labels.to(device),
        is_noisy=torch.zeros(len(labels), dtype=torch.bool, device=device),
        sample_ids=torch.arange(len(labels), device=device),
        test_images=images[:CLASSES],
        test_labels=labels[:CLASSES].to(device),
        corrupted_classes=None,
        padded=pad(images, SHIFT, (-mean / std).to(device)) if augmented else None,
    )


class Images(Dataset):
    """Images that are scaled, augmented and normalised one by one."""

    def __init__(self, family: str, args: argparse.Namespace, steps: int):
        self.images, self.labels = pixels(args, steps)
        self.augmented = "augmentation" in SETTINGS[family]
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index].permute(2, 0, 1).float() / 255
        if self.augmented:
            size = image.shape[1]
            top, left = torch.randint(2 * SHIFT + 1, (2,)).tolist()
            image = functional.pad(image, (SHIFT,) * 4)[:, top : top + size, left : left + size]
            if torch.rand(()) < 0.5:
                image = image.flip(2)
        return (image - self.mean) / self.std, int(self.labels[index])


def flops_per_image(
    family: str, width: int, device: torch.device, args: argparse.Namespace
) -> float:
    """Return the operations of a training step for one image, without the optimiser's."""
    network = plain_network(family, width, args.image_size).to(device)
    images = torch.randn(8, 3, args.image_size, args.image_size, device=device)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() / len(images)


def matmul_rate(device: torch.device) -> float:
    """Return the operations per second of a large matrix product."""
    a = torch.randn(MATRIX[device.type], MATRIX[device.type], device=device)
    repeats = 3
    a @ a

    def products() -> None:
        for _ in range(repeats):
            a @ a

    return repeats * 2 * len(a) ** 3 / clocked(products, device)


def clocked(function: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that a function takes, all it has started on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
