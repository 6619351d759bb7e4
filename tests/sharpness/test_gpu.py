"""The sharpness engine on a GPU, against float64 on a CPU."""

import time

import numpy as np
import pytest
import torch
from sharpness.references import MEAN, STD, random_images, random_labels

from smoothdescent.networks.registry import build
from smoothdescent.sharpness import ShiftPaths, SVDPaths, measure
from smoothdescent.sharpness.paths import BATCHED_SVD, svd_images
from smoothdescent.sharpness.planning import parse_memory

pytestmark = pytest.mark.gpu

MEASURES = ("crossentropy", "jacobian_norm", "hessian_sumsq")


def network_of(name, width, classes=10):
    torch.manual_seed(0)
    return build(name, width=width, num_classes=classes, image_size=32)


def measured(network, count, **keywords):
    images, labels = random_images(count, size=32), random_labels(count, classes=10)
    return measure(network, images, labels, mean=MEAN, std=STD, **keywords)


@pytest.mark.parametrize("paths", [SVDPaths(2, (5, 10, 20)), ShiftPaths(2, (1.0, 2.5))])
@pytest.mark.parametrize(("network", "width"), [("convnet", 8), ("convnet", 64), ("resnet18", 32)])
def test_float32_is_as_exact_as_on_a_cpu(network, width, paths):
    """The Hessian is a difference of gradients that agree to three digits: a convolution whose
    algorithm loses digits (Winograd's, Fourier transforms) shows in it first."""
    network = network_of(network, width)
    exact = measured(network, 24, paths=paths, device="cpu", dtype=torch.float64)
    errors = {}
    for device in ("cpu", "cuda"):
        found = measured(network, 24, paths=paths, device=device, dtype=torch.float32)
        for name in MEASURES:
            reference = exact[name].to_numpy()
            distance = np.abs(found[name].to_numpy() - reference) / np.abs(reference).max()
            errors[device, name] = float(np.sqrt(np.mean(distance**2)))
    print({key: f"{value:.1e}" for key, value in errors.items()})
    for name in MEASURES:
        assert errors["cuda", name] <= 4 * errors["cpu", name] + 1e-6, errors


def test_large_images_are_decomposed_on_the_cpu():
    images = random_images(32, size=BATCHED_SVD + 8)
    found = svd_images(images.cuda(), 2, (5, 10))
    torch.testing.assert_close(found.cpu(), svd_images(images, 2, (5, 10)), rtol=0, atol=1e-12)
    times = {}
    for device in ("cpu", "cuda", "cpu", "cuda"):  # the first two load libraries
        matrices = images.to(device, torch.float64)
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.linalg.svd(matrices, full_matrices=False)
        torch.cuda.synchronize()
        times[device] = time.perf_counter() - start
    print({device: f"{1e3 * seconds:.1f} ms" for device, seconds in times.items()})


def test_decompositions_that_are_not_unique():
    images = random_images(6, size=32)
    images[0] = 0
    images[1] = 0.5
    images[2] = torch.rand(3, 1, 32) * torch.rand(3, 32, 1)
    images[3, 1] = torch.eye(32)
    found = svd_images(images.cuda(), 4, (5, 10, 25)).cpu()
    expected = svd_images(images, 4, (5, 10, 25))
    assert torch.isfinite(found).all()
    unique = [0, 1, 2, 4, 5]
    torch.testing.assert_close(found[unique], expected[unique], rtol=0, atol=1e-12)
    # Any choice among equal singular values removes as much.
    removed = [(images[3, 1] - x[3, :, :, 1]).norm(dim=(-2, -1)) for x in (found, expected)]
    torch.testing.assert_close(*removed, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "width"), [("convnet", 16), ("resnet18", 16), ("resnet18", 64)]
)
def test_the_budget_is_kept_and_used(network, width):
    budget, network = 2**30, network_of(network, width).cuda()
    measured(network, 8)  # libraries allocate what they keep
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    measured(network, 500, memory=budget)
    used = torch.cuda.max_memory_allocated() - before
    print(f"{used / budget:.0%} of the budget")
    assert budget / 8 < used < 1.1 * budget


def test_a_budget_that_the_device_does_not_have(capsys):
    network = network_of("resnet18", 16).cuda()
    expected = measured(network, 60)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total))
    try:
        found = measured(network, 60, memory="60GiB")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert capsys.readouterr().err.count("out of memory; measuring in smaller batches") == 1
    for name in MEASURES:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-2)


def test_without_a_budget_a_quarter_of_what_is_free_is_used():
    device = torch.device("cuda")
    _, total = torch.cuda.mem_get_info(device)
    first = parse_memory(None, device)
    assert 0 < first <= total // 4
    held = torch.empty(2**28, dtype=torch.uint8, device=device)
    assert parse_memory(None, device) <= first - 2**25
    del held  # kept by this process, for itself
    assert abs(parse_memory(None, device) - first) <= 2**26
