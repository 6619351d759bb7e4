"""Short measurements of training, evaluating and measuring, at a few widths of an experiment."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from smoothdescent.config.schema import Experiment
from smoothdescent.data.store import Store
from smoothdescent.networks.registry import count_parameters
from smoothdescent.plan.forecast import Costs
from smoothdescent.sharpness import Paths, Tangent, measure
from smoothdescent.training.augmentation import pad
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.evaluation import evaluate
from smoothdescent.training.run import Run, new_run
from smoothdescent.training.step import Step, choose_kernels

MOST_WIDTHS = 5
BATCHES = 8  # of an epoch of the calibration
MEASURED = {"cpu": 32, "cuda": 512}  # images, at least


def calibrate(
    experiment: Experiment, store: Store, device: torch.device, memory: str | None, seconds: float
) -> Costs:
    """Time an experiment's work at some of its widths, on random images.

    Args:
        experiment: the settings.
        store: its data set, for the numbers of images and classes.
        device: where to compute.
        memory: the sharpness engine's budget.
        seconds: about how long to repeat each of the timings.
    """
    widths = chosen_widths(experiment.widths)
    size = experiment.data.image_size or store.image_size
    sizes = {"num_classes": store.num_classes, "image_size": size}
    data = random_data(experiment, store.num_classes, size, device)
    columns: dict[str, list[float]] = {name: [] for name in ("train", "evaluate")}
    columns |= {"point": [], "volumes": []}
    parameters = []
    for width in widths:
        run = new_run(experiment, width=width, seed=0, device=device, **sizes)
        choose_kernels(run, data, experiment, width=width, **sizes)  # as its training will
        parameters.append(count_parameters(run.network))
        columns["train"].append(_training(run, data, experiment, seconds))
        columns["evaluate"].append(
            timed(lambda: evaluate(run.network, data.images, data.labels), device, seconds)  # noqa: B023
            / len(data.labels)
        )
        for name, volumes in (("point", 0), ("volumes", None)):
            columns[name].append(_measuring(run, experiment, data, volumes, memory, seconds))
    total = len(store.train.images)
    samples = experiment.data.train_samples or total - experiment.data.validation
    return Costs(
        widths=widths,
        parameters=parameters,
        train_samples=samples,
        test_samples=len(store.test.images),
        image_size=size,
        device_memory=device_memory(device),
        host_memory=host_memory(),
        **columns,
    )


def chosen_widths(widths: list[int]) -> list[int]:
    """Return up to `MOST_WIDTHS` of some widths, spread evenly on a logarithmic scale."""
    count = min(MOST_WIDTHS, len(widths))
    first, last = widths[0], widths[-1]
    wanted = [first * (last / first) ** (i / max(count - 1, 1)) for i in range(count)]
    return sorted({min(widths, key=lambda w: abs(math.log(w / goal))) for goal in wanted})


def random_data(
    experiment: Experiment, classes: int, size: int, device: torch.device
) -> TrainingData:
    """Return `BATCHES` batches of random images in the form in which an experiment trains."""
    samples = BATCHES * experiment.batch_size
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(samples, size, size, 3, generator=draw).to(device)
    labels = torch.randint(classes, (samples,), generator=draw).to(device)
    augmentation = experiment.augmentation
    black = torch.zeros(3, device=device)
    return TrainingData(
        images=images,
        labels=labels,
        is_noisy=torch.zeros(samples, dtype=torch.bool, device=device),
        sample_ids=torch.arange(samples, device=device),
        test_images=images[: experiment.batch_size],
        test_labels=labels[: experiment.batch_size],
        corrupted_classes=None,
        padded=pad(images, augmentation.shift, black) if augmentation else None,
    )


def timed(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median time of a call in seconds, after one that is not counted.

    It is processor time where one thread computes: other work on the machine does not count.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    times: list[float] = []
    work()
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds or len(times) < 3:
        _wait_for(device)
        start = clock()
        work()
        _wait_for(device)
        times.append(clock() - start)
    return sorted(times)[len(times) // 2]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _training(run: Run, data: TrainingData, experiment: Experiment, seconds: float) -> float:
    """Return the seconds of a training step per image."""
    plain = experiment.model_copy(update={"evaluate_every": 2**62})
    # Random labels do not matter, diverging would: it ends a training.
    slow = experiment.optimizer.model_copy(update={"learning_rate": 1e-6})
    plain = plain.model_copy(update={"optimizer": slow})

    step = Step(run, data, plain)

    def epoch() -> None:
        train(run, data, plain, seed=0, until=run.epoch + 1, evaluate_at=set(), step=step)

    return timed(epoch, data.labels.device, seconds) / len(data.labels)


def _measuring(
    run: Run,
    experiment: Experiment,
    data: TrainingData,
    volumes: int | None,
    memory: str | None,
    seconds: float,
) -> float:
    """Return the seconds of measuring an image at the point, or over all volumes."""
    device, settings = data.labels.device, experiment.measure
    pixels = (data.images[: settings.samples].cpu() * 0.2 + 0.5).clamp(0, 1).permute(0, 3, 1, 2)

    def seconds_of(count: int, repeat_for: float) -> float:
        return timed(lambda: work(count), device, repeat_for)

    def work(count: int) -> None:
        measure(
            run.network,
            pixels[:count],
            data.labels[:count].cpu(),
            mean=(0.5,) * 3,
            std=(0.2,) * 3,
            paths=Paths(settings.paths.family, settings.paths.directions, settings.paths.strengths),
            tangent=Tangent(jitters=settings.jitters, step_size=settings.step_size),
            volumes=volumes,
            measures=settings.measures,
            device=device,
            dtype=getattr(torch, settings.dtype),
            memory=memory,
        )

    count = min(MEASURED[device.type], len(pixels))
    # What a call costs beside its images must not count more than where many are measured.
    while count < len(pixels) and seconds_of(count, repeat_for=0) < seconds / 10:
        count = min(4 * count, len(pixels))
    return seconds_of(count, repeat_for=seconds) / count


def device_memory(device: torch.device) -> int:
    """Return the bytes that this process has held at most of the device's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return host_memory()


def host_memory() -> int:
    """Return the bytes of main memory that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def startup_seconds() -> float:
    """Return the processor time that a job costs before it works: Python and its imports."""
    command = [sys.executable, "-m", "smoothdescent", "train", "--help"]
    for _ in range(2):  # the first may have to compile modules
        start = os.times()
        subprocess.run(command, check=True, capture_output=True)
        end = os.times()
    spent = zip(start[2:4], end[2:4], strict=True)  # by children: in the program and for it
    return sum(after - before for before, after in spent)
