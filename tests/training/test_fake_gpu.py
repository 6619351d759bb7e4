"""What runs on a GPU, on tensors that say they are there but hold no numbers: no GPU is needed.

A tensor that was left on the CPU, or a value that is read back inside a step, is an error there.
Kernels of the backward pass and of the optimisers are PyTorch's: here gradients come without them,
and what an optimiser is given is looked at.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from training.test_step import data_on
from training.tiny import NAME, tiny_study

from smoothdescent.networks.registry import build
from smoothdescent.training import run as run_module
from smoothdescent.training.evaluation import evaluate
from smoothdescent.training.run import new_run
from smoothdescent.training.step import Step

GPU = torch.device("cuda", 0)


@pytest.fixture
def fake_gpu(monkeypatch):
    """A block in which new tensors are fake; networks are built of real ones, and moved."""

    def build_real(*arguments, **keywords):
        with _disable_current_modes():
            networks.append(build(*arguments, **keywords))
        return networks[-1]

    def backward(loss):
        for parameter in networks[-1].parameters():
            parameter.grad = torch.zeros_like(parameter)

    def update(*groups, **options):
        tensors = [t for group in [*groups, options.values()] for t in group if torch.is_tensor(t)]
        devices.update(tensor.device for tensor in tensors)

    networks, devices = [], set()
    for name in ("_fused_sgd_", "_fused_adam_"):
        monkeypatch.setattr(torch, name, update)
    monkeypatch.setattr(run_module, "build", build_real)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield devices


@pytest.mark.filterwarnings("ignore:CUDA is not available")  # so autocast stays off
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "tf32"])
@pytest.mark.parametrize(("network", "optimizer"), [("convnet", "sgd"), ("resnet18", "adam")])
def test_steps_and_evaluations(fake_gpu, network, optimizer, precision):
    experiment = tiny_study(
        network=network,
        optimizer={"name": optimizer, "learning_rate": 0.01},
        precision=precision,
        augmentation={"shift": 2, "flip": True},
    ).experiments[NAME]
    data = data_on(GPU)
    run = new_run(experiment, width=2, seed=0, num_classes=10, image_size=8, device=GPU)
    step = Step(run, data, experiment)
    step.start_epoch(0, 0)
    step._draws = False  # there is no generator of a GPU to be seeded
    for size in (16, 2):
        step(torch.arange(size, device=GPU), 0.01)
    losses, correct = evaluate(run.network, data.test_images, data.test_labels)
    assert fake_gpu == {GPU}
    assert {t.device for t in (losses, correct, run.running)} == {GPU}
    state = [v for buffers in run.optimizer.state.values() for v in buffers.values()]
    assert {t.device for t in [*run.network.state_dict().values(), *state]} == {GPU}
