"""One training step; on a GPU all of its kernels are launched at once.

A step of a narrow network is some hundred kernels of microseconds, and a GPU waits for its CPU to
launch them one by one. Captured in a CUDA graph they are one launch. A graph reads from and writes
to fixed places in memory: the positions of the batch, the learning rate, the crops of the epoch and
the run itself. On a CPU the same function, on the same fixed places, is called directly, or, for a
network that has one, a step that is compiled as a whole.

A network with random layers finds the global generators seeded by (seed, epoch, step), so that its
run can be repeated and resumed. Runs side by side then take turns, and their kernels are launched
one by one. Whether a network draws shows in the first step of each epoch.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch.nn import functional

from smoothdescent.config.schema import Training
from smoothdescent.devices import describe, kernel_choice, precision_in_force, tf32
from smoothdescent.files import fingerprint
from smoothdescent.networks.compiled import FUSED, TORCH, kernels
from smoothdescent.networks.contract import describe_error
from smoothdescent.networks.registry import network_sources
from smoothdescent.progress import log
from smoothdescent.randomness import GLOBAL_GENERATORS, derive_seed, global_generators
from smoothdescent.source_code import code_digest
from smoothdescent.training.augmentation import Crops, crop, draw_crops
from smoothdescent.training.data import TrainingData
from smoothdescent.training.run import LAYOUTS, Run, new_run

# Steps that are launched kernel by kernel before one is captured: libraries choose their algorithms
# and allocate what they need in the first ones, which cannot be captured.
WARM_UP = 3
# As runs record them, the usual ones last. Networks without fused kernels have the others.
GPU_KERNELS = [f"{kernels}, {layout}" for kernels in (FUSED, TORCH) for layout in reversed(LAYOUTS)]
TIMED = 20  # steps in a turn, to choose by
WORTH = 0.95  # of the usual one's time, at most: of two that are equally fast, chance would choose


class Step:
    """Trains a run on one batch after the other.

    On a GPU, all calls belong into one block of `own_stream`.

    Args:
        run: changed in place by each call.
        data: on the run's device.
        settings: those of the training.
    """

    capturing: ClassVar[bool] = True  # whether this process tries to

    def __init__(self, run: Run, data: TrainingData, settings: Training):
        self.run, self.data, self.settings = run, data, settings
        self._device = data.labels.device
        self._rate = torch.zeros((), device=self._device)
        for group in run.optimizer.param_groups:
            group["lr"] = self._rate
        self._crops: Crops | None = None
        self._positions: dict[int, torch.Tensor] = {}
        self._eager_steps: Counter[int] = Counter()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._seed = 0
        self._draws: bool | None = None  # whether the network does; None: not known
        compiled = getattr(run.network, "training_step", None)
        self._precision = precision_in_force(settings.precision, self._device)
        full = self._precision == "float32"
        self._compiled = compiled(run.optimizer) if compiled and full else None

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Draw the epoch's augmentation, if there is one, and let its steps draw by their names."""
        self._seed = seed
        self._draws = self._draws or None
        augmentation = self.settings.augmentation
        if augmentation is None:
            return
        crops = draw_crops(seed, epoch, self.data.sample_ids, **augmentation.model_dump())
        if self._crops is None:
            self._crops = crops
        else:
            self._crops.copy_(crops)

    def __call__(self, batch: torch.Tensor, rate: float) -> None:
        """Take one step.

        Args:
            batch: int64 [B], positions of the batch's samples, on the device.
            rate: the learning rate.
        """
        if self._compiled is not None:
            labels = self.data.labels.index_select(0, batch)
            self._compiled(self._pixels(batch), labels, rate, self.run.running)
            return
        size = len(batch)
        positions = self._positions.setdefault(size, torch.empty_like(batch))
        positions.copy_(batch)
        self._rate.fill_(rate)
        if size not in self._graphs and self._can_capture(size):
            self._capture(positions)
        if size in self._graphs:
            self._graphs[size].replay()
        else:
            self._eager_steps[size] += 1
            self._launch(positions)

    def _can_capture(self, size: int) -> bool:
        # A graph would replay the draws of the step that was captured.
        on_gpu = self._device.type == "cuda"
        return on_gpu and Step.capturing and not self._draws and self._eager_steps[size] >= WARM_UP

    def _launch(self, positions: torch.Tensor) -> None:
        """Compute the step, with global generators of its own if the network may draw."""
        with tf32(self._precision == "tf32"):
            if self._draws is False:
                self._compute(positions)
                return
            seed = derive_seed(self._seed, "layers", self.run.epoch, self.run.step)
            with global_generators(seed, self._device) as drawn:
                self._compute(positions)
                self._draws = self._draws or drawn()

    def _compute(self, positions: torch.Tensor) -> None:
        run, optimizer = self.run, self.run.optimizer
        labels = self.data.labels.index_select(0, positions)
        half = self._precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            images = self._pixels(positions).permute(0, 3, 1, 2)
            logits = run.network(images.contiguous(memory_format=run.layout)).float()
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for parameter in optimizer.param_groups[0]["params"]:
            # What this step left out, as stochastic depth does: fused optimisers want them all.
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        run.running[0] += loss.detach() * len(positions)
        run.running[1] += (logits.detach().argmax(1) == labels).sum()

    def _pixels(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the images of a batch in this epoch, [B, H, W, C]."""
        augmentation = self.settings.augmentation
        if augmentation is None:
            return self.data.images.index_select(0, positions)
        return crop(self.data.padded, positions, self._crops, augmentation.shift)

    def _capture(self, positions: torch.Tensor) -> None:
        """Capture the step for batches of this size, which does not take it."""
        groups = self.run.optimizer.param_groups
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        # Other threads, which train other runs, go on meanwhile; but one captures at a time, and
        # none seeds the generator that a capture holds.
        mode = {"stream": torch.cuda.current_stream(), "capture_error_mode": "thread_local"}
        try:
            _set_capturable(groups, True)
            with (
                tf32(self._precision == "tf32"),
                GLOBAL_GENERATORS,
                torch.cuda.graph(graph, pool=pool, **mode),
            ):
                self._compute(positions)
            self._graphs[len(positions)] = graph
        except Exception as error:  # whatever a user's own code may raise
            # A process whose capture failed is no place to try it again.
            Step.capturing = False
            # PyTorch may have left the allocator serving this capture. RuntimeError: it has not.
            with contextlib.suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(self._device.index, pool)
            log(
                "the training step cannot be captured in a CUDA graph, this process launches its "
                f"kernels one by one: {describe_error(_first_cause(error))}"
            )
        finally:
            _set_capturable(groups, False)


def _first_cause(error: BaseException) -> BaseException:
    """Return what was raised first: leaving a failed capture raises once more."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _set_capturable(groups: list[dict], value: bool) -> None:
    """Tell an optimiser that asks for it (Adam) that its next step is captured."""
    for group in groups:
        if "capturable" in group:
            group["capturable"] = value


def choose_kernels(run: Run, data: TrainingData, settings: Training, **sizes: int) -> None:
    """Let a run that begins on a GPU train with the kernels and in the layout that are fastest.

    The answer is kept on the machine. With `deterministic` no timing may influence a run.

    Args:
        run: before its first step.
        data: on the run's device.
        settings: those of the training.
        sizes: `width`, `num_classes` and `image_size`, of the network.
    """
    if kernel_choice(data.labels.device).get("deterministic") is not False:
        return
    with _choosing:
        possible = []
        for name in GPU_KERNELS:
            run.choose_kernels(name)
            if run.kernels == name:
                possible.append(name)
        run.choose_kernels(fastest_kernels(possible, data, settings, **sizes))


_choosing = threading.Lock()  # runs that wait leave the GPU alone


def fastest_kernels(
    names: list[str], data: TrainingData, settings: Training, **sizes: int
) -> str | None:
    """Return with which of some kernels steps take least time; None without a place for the answer.

    Args:
        names: as `Run.kernels` has them; the last one is the usual one.
        data, settings, sizes: see `choose_kernels`.
    """
    cache = kernels("cache")
    if cache is None:
        return None
    device = data.labels.device
    batch = torch.arange(min(settings.batch_size, len(data.labels)), device=device)
    depends_on = [
        *(describe(device), kernel_choice(device), torch.__version__, len(batch), sizes),
        *(settings.network, code_digest(*network_sources(settings.network))),
        *(precision_in_force(settings.precision, device), settings.optimizer.name),
        settings.augmentation is not None,
    ]

    @functools.cache
    def trial(name: str) -> Callable[[], None]:
        run = new_run(settings, seed=0, device=device, **sizes)
        run.choose_kernels(name)
        step = Step(run, data, settings)

        def work() -> None:
            with own_stream(device):
                step.start_epoch(0, 0)
                for _ in range(TIMED):
                    step(batch, 0.0)
                run.running.tolist()  # waits for the device

        return work

    contestants = {name: lambda name=name: trial(name)() for name in names}
    return cache.fastest(f"gpu-{fingerprint(depends_on)}", contestants, needed=WORTH)


_streams = threading.local()  # `own`, a stream


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, let the block's work be on the thread's own stream, as capturing it demands."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.current_stream(device)
    # Memory that was used on a stream is used again on that one alone: each thread keeps its own.
    if not hasattr(_streams, "own") or _streams.own.device != before.device:
        _streams.own = torch.cuda.Stream(device)
    stream = _streams.own
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)
