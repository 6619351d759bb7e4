"""The engine on tensors that say they are on a GPU but hold no numbers: no GPU is needed.

A tensor that was left on the CPU, or a value that is read back between batches, is an error there.
Gradients, kernels of PyTorch, come without being computed.
"""

import numpy as np
import pytest
import torch
from sharpness.references import MEAN, STD, random_images, random_labels
from torch._subclasses.fake_tensor import FakeTensorMode

from smoothdescent.networks.registry import build
from smoothdescent.sharpness import ShiftPaths, SVDPaths, Tangent
from smoothdescent.sharpness import engine as engine_module
from smoothdescent.sharpness.engine import _Engine
from smoothdescent.sharpness.gradients import FrozenNetwork
from smoothdescent.sharpness.inputs import check_samples
from smoothdescent.sharpness.measures import find_measures
from smoothdescent.sharpness.paths import svd_images
from smoothdescent.tables.columns import STANDARD_MEASURES

GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("paths", [SVDPaths(2, (2, 4)), ShiftPaths(2, (1.0, 2.0)), None])
@pytest.mark.parametrize("network", ["convnet", "resnet18"])
def test_a_chunk_of_samples(monkeypatch, network, paths):
    def leave(tensor):
        left.add(tensor.device)
        return tensor

    def frozen(network, device, dtype, example):
        assert example.device == device
        network = network.to(device, dtype).eval().requires_grad_(False)
        return FrozenNetwork(network, torch.channels_last, 3, saved_bytes=1000, fixed_bytes=0)

    left = set()
    network = build(network, width=2, num_classes=3, image_size=8)
    images, labels = random_images(3).float(), random_labels(3)
    (samples,) = check_samples(images, labels, None, 3, None)
    # What looks at a network before it is measured reads numbers.
    monkeypatch.setattr(engine_module, "freeze", frozen)
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, x: (torch.zeros_like(x),))
    monkeypatch.setattr(torch.Tensor, "cpu", leave)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tensor.shape))
    with FakeTensorMode(allow_non_fake_inputs=True):
        engine = _Engine(
            network, samples, MEAN, STD, paths, Tangent(), find_measures(STANDARD_MEASURES), 0,
            GPU, torch.float32, 2**26,
        )  # fmt: skip
        columns, stop = engine.measure_some(samples, 0)
    assert stop == 3 and left == {GPU}
    assert {*STANDARD_MEASURES, "path_length"} < {*columns}


@pytest.mark.parametrize(("size", "device"), [(32, "cuda"), (33, "cpu")])
def test_where_images_are_decomposed(monkeypatch, size, device):
    """cuSOLVER decomposes matrices of up to 32 rows and columns side by side, others one by one."""

    def svd(matrices, **keywords):
        decomposed.append((matrices.device.type, matrices.dtype))
        return original(matrices, **keywords)

    original, decomposed = torch.linalg.svd, []
    monkeypatch.setattr(torch.linalg, "svd", svd)
    with FakeTensorMode():
        found = svd_images(torch.zeros(2, 3, size, size, device=GPU), 1, (2,))
    assert found.device == GPU
    assert decomposed == [(device, torch.float64)]
