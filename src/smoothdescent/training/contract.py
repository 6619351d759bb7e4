"""A dry run of all that will be done with a network, on a few random images, before it is trained.

What would fail or mislead after days of training is told in seconds: build, train, interrupt,
resume, keep as a snapshot, measure.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from smoothdescent.config.schema import Experiment
from smoothdescent.errors import UserError
from smoothdescent.networks.contract import IMAGES, check_evaluation, describe_error
from smoothdescent.networks.registry import NETWORKS, build
from smoothdescent.networks.weights import load_tensors, load_weights, save_weights
from smoothdescent.progress import log
from smoothdescent.randomness import generator, global_generators
from smoothdescent.sharpness import Tangent, measure
from smoothdescent.training.data import TrainingData
from smoothdescent.training.run import Run, new_run
from smoothdescent.training.step import Step, own_stream

# A GPU adds in an order that changes; a CPU repeats every bit.
TOLERANCE = {"cpu": 0.0, "cuda": 1e-3}


def check_trainable(
    experiment: Experiment, *, width: int, num_classes: int, image_size: int, device: torch.device
) -> None:
    """Check that an experiment's network can be trained, resumed and measured.

    It leaves no trace: networks are built for it, and random numbers are drawn apart.

    Args:
        experiment: the settings.
        width: base width.
        num_classes: C.
        image_size: height and width of the images in pixels.
        device: where the training will be.

    Raises:
        UserError: says what was seen.
    """
    if experiment.network in NETWORKS:
        return  # the program's own networks are tried by its tests
    plain = experiment.model_copy(update={"augmentation": None})
    name = f"network {experiment.network} of width {width}"
    data = _random_data(num_classes, image_size, device)
    images = data.images.permute(0, 3, 1, 2)

    def start() -> Run:
        sizes = {"num_classes": num_classes, "image_size": image_size}
        return new_run(plain, width=width, seed=0, device=device, **sizes)

    with (
        global_generators(0, device),
        tempfile.TemporaryDirectory(prefix="smoothdescent-") as folder,
    ):
        with _told(name, "built"):
            whole, resumed = start(), start()
        _check_kind(whole.network, name)
        _check_same(whole, resumed, f"{name} starts from other weights each time it is built")
        check_evaluation(whole.network.eval(), images, name)
        _check_classes(whole.network, images, num_classes, name)
        whole.network.train()
        with _told(name, "trained"):
            _train(whole, data, plain)
        with _told(name, "saved and resumed"):
            whole.save(Path(folder) / "state.safetensors", {})
            state = Path(folder) / "state.safetensors"
            resumed.load(state, *load_tensors(state))
        with _told(name, "trained"):
            _train(whole, data, plain)
            _train(resumed, data, plain)
        _check_same(
            whole, resumed, f"{name} is trained to other weights after it was saved and resumed"
        )
        snapshot = Path(folder) / "snapshot.safetensors"
        with _told(name, "saved and loaded"):
            save_weights(snapshot, whole.network, {})
            loaded = build(
                experiment.network, width=width, num_classes=num_classes, image_size=image_size
            )
            load_weights(snapshot, loaded)
        loaded = loaded.to(device=device, memory_format=torch.channels_last).eval()
        if hasattr(loaded, "choose_kernels"):
            loaded.choose_kernels(whole.kernels)  # others round differently
        with torch.no_grad():
            found, expected = loaded(images), whole.network.eval()(images)
        if not _close(found, expected, device):
            raise UserError(
                f"{name} gives different logits after its weights were saved and loaded; expected "
                "that all it has learnt or drawn is kept in parameters and buffers"
            )
        with _told(name, "measured"):
            _measure(loaded, images, data.labels, experiment)
    unused = _unused_parameters(whole.network, images)
    if unused:
        log(f"{name}: no logit depends on {', '.join(unused[:3])}, which training leaves as it is")


def _random_data(num_classes: int, image_size: int, device: torch.device) -> TrainingData:
    draw = generator(0, "contract")
    images = torch.randn(IMAGES, image_size, image_size, 3, generator=draw).to(device)
    labels = torch.randint(num_classes, (IMAGES,), generator=draw).to(device)
    return TrainingData(
        images=images,
        labels=labels,
        is_noisy=torch.zeros(IMAGES, dtype=torch.bool, device=device),
        sample_ids=torch.arange(IMAGES, device=device),
        test_images=images,
        test_labels=labels,
        corrupted_classes=None,
    )


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Turn whatever a user's own code raises into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be {what}: {describe_error(error)}") from error


def _check_kind(network: nn.Module, name: str) -> None:
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(
            f"{name} is scripted: its arithmetic changes while it runs, and no run could be "
            "repeated bit for bit; expected the module that was scripted"
        )
    for key, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"{name} keeps {key}, a {type(value).__name__}, in its state; expected tensors "
                "alone, such as buffers"
            )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{name} has no parameter to train")


def _check_classes(network: nn.Module, images: torch.Tensor, classes: int, name: str) -> None:
    with torch.no_grad():
        found = network(images).shape[1]
    if found != classes:
        raise UserError(f"{name} returned {found} logits for an image; expected {classes}")


def _train(run: Run, data: TrainingData, experiment: Experiment) -> None:
    """Take one step, as the training does."""
    with own_stream(data.labels.device):
        step = Step(run, data, experiment)
        step.start_epoch(0, run.epoch)
        step(torch.arange(IMAGES, device=data.labels.device), experiment.optimizer.learning_rate)
    run.step += 1
    if not torch.isfinite(run.running).all():
        raise UserError(f"network {experiment.network}: the loss of ordinary images is not finite")


def _unused_parameters(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Return the names of trainable parameters that no logit depends on, in evaluation mode."""
    named = {key: p for key, p in network.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(network(images).sum(), [*named.values()], allow_unused=True)
    return [key for key, found in zip(named, gradients, strict=True) if found is None]


def _check_same(one: Run, other: Run, otherwise: str) -> None:
    tensors = other.network.state_dict()
    for key, tensor in one.network.state_dict().items():
        if not _close(tensor, tensors[key], tensor.device):
            raise UserError(
                f"{otherwise}: its tensor {key} differs; expected that it draws from the global "
                "generators of Python, NumPy or PyTorch alone, and keeps its state in buffers"
            )


def _close(one: torch.Tensor, other: torch.Tensor, device: torch.device) -> bool:
    tolerance = TOLERANCE[device.type]
    if not tolerance or not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def _measure(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, experiment: Experiment
) -> None:
    settings = experiment.measure
    measure(
        network,
        torch.sigmoid(images[:2]),
        labels[:2],
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        tangent=Tangent(jitters=1),
        volumes=0,
        dtype=getattr(torch, settings.dtype),
    )
