import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from sharpness.references import (
    MEAN,
    STD,
    loss_and_gradient,
    normalised,
    random_images,
    random_labels,
    smooth,
)
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build
from smoothdescent.sharpness import (
    ShiftPaths,
    SVDPaths,
    Tangent,
    hessian_norm,
    measure,
    path_images,
    tangent_points,
)
from smoothdescent.sharpness.gradients import FrozenNetwork

EXACT = {"mean": MEAN, "std": STD, "dtype": torch.float64}
MEASURES = ("accuracy", "crossentropy", "jacobian_norm", "hessian_sumsq")
PATHS = SVDPaths(2, (2, 4, 6))


def columns(table):
    return {name: table[name].to_numpy() for name in table.column_names}


def assert_tables_close(first, second, rtol=1e-9, hessian_rtol=1e-6):
    """Compare tables; the Hessian is a difference of nearly equal gradients."""
    first, second = columns(first), columns(second)
    assert list(first) == list(second)
    for name, values in first.items():
        tolerance = hessian_rtol if name == "hessian_sumsq" else rtol
        np.testing.assert_allclose(values, second[name], rtol=tolerance, err_msg=name)


def naive(network, images, labels, sample_ids, paths, tangent, seed):
    """All measures by loops: one point at a time, every segment's ends evaluated again."""
    rows = []
    for image, label, sample_id in zip(images, labels, sample_ids, strict=True):
        along = path_images(image[None], paths)[0]

        def at(point, label=label, sample_id=sample_id):
            loss, correct, gradient = loss_and_gradient(network, normalised(point), label)
            others = tangent_points(
                point[None], sample_id[None], mean=MEAN, std=STD, tangent=tangent, seed=seed
            )[0]
            total = sum(
                float(((loss_and_gradient(network, x, label)[2] - gradient) ** 2).sum())
                for x in others
            )
            return np.array([correct, loss, float(gradient.norm()), np.sqrt(total)])

        for volume in range(along.shape[1]):
            means, lengths = [], []
            for path in along:
                area, length = np.zeros(4), 0.0
                for k in range(volume):
                    step = float((normalised(path[k + 1]) - normalised(path[k])).norm())
                    area += step * (at(path[k]) + at(path[k + 1])) / 2
                    length += step
                means.append(area / length if length else at(path[0]))
                lengths.append(length)
            *values, hessian = np.mean(means, axis=0)
            rows.append([int(sample_id), volume, *values, hessian**2, np.mean(lengths)])
    return np.array(rows)


@pytest.mark.parametrize("paths", [PATHS, ShiftPaths(3, (0.5, 2))], ids=["svd", "shift"])
@pytest.mark.parametrize("step", ["delta", "full"])
def test_measure_matches_loops(paths, step):
    network, tangent = smooth(), Tangent(jitters=2, step_size=0.3, step=step, magnitude=0.05)
    images, labels, ids = random_images(3), random_labels(3), torch.tensor([4, 1, 7])
    found = measure(network, images, labels, ids, paths=paths, tangent=tangent, seed=3, **EXACT)
    assert found.column_names == ["sample_id", "volume", *MEASURES, "path_length"]
    assert [str(kind) for kind in found.schema.types] == ["int64", "int16"] + ["double"] * 5
    expected = naive(network, images, labels, ids, paths, tangent, 3)
    for values, (name, mine) in zip(expected.T, columns(found).items(), strict=True):
        np.testing.assert_allclose(mine, values, rtol=1e-7, err_msg=name)


def test_the_hessian_tends_to_hessian_vector_products():
    network, images, labels = smooth().eval(), random_images(2), random_labels(2)
    errors = []
    for step_size in (1e-1, 1e-2, 1e-3):
        tangent = Tangent(jitters=3, step_size=step_size, magnitude=0.2)
        table = measure(network, images, labels, tangent=tangent, volumes=0, **EXACT)
        found = hessian_norm(columns(table)["hessian_sumsq"], 3, step_size)
        full = Tangent(jitters=3, step="full", magnitude=0.2)
        ends = tangent_points(images, torch.arange(2), mean=MEAN, std=STD, tangent=full)
        expected = []
        for n in range(2):
            x = normalised(images[n])

            def loss(x, label=labels[n]):
                return -torch.log_softmax(network(x[None])[0], dim=0)[label]

            total = sum(
                float((torch.autograd.functional.hvp(loss, x, end - x)[1] ** 2).sum())
                for end in ends[n]
            )
            expected.append(np.sqrt(total) / (9 * step_size))
        errors.append(np.max(np.abs(found / expected - 1)))
    assert errors[-1] < 1e-4
    assert errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5  # of first order in delta


class Quadratic(nn.Module):
    """Log-probabilities whose cross-entropy with label 0 is x^T A x / 2 (x normalised)."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, x):
        x = x.flatten(1)
        loss = ((x @ self.matrix) * x).sum(1, keepdim=True) / 2
        return torch.cat([-loss, torch.log(-torch.expm1(-loss))], dim=1)


def test_quadratic_losses_have_their_closed_form():
    root = torch.randn(48, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = root @ root.T / 48
    images, labels = random_images(3, size=4), torch.zeros(3, dtype=torch.int64)
    tangent = Tangent(jitters=4, step_size=0.5, magnitude=0.1)
    paths = SVDPaths(2, (1, 3))
    table = columns(
        measure(Quadratic(matrix), images, labels, paths=paths, tangent=tangent, **EXACT)
    )
    points = normalised(path_images(images, paths).flatten(0, 2)).view(3, 2, 3, 48)
    losses = ((points @ matrix) * points).sum(-1) / 2
    base = table["volume"] == 0
    np.testing.assert_allclose(table["crossentropy"][base], losses[:, 0, 0], rtol=1e-10)
    np.testing.assert_allclose(
        table["jacobian_norm"][base], (points[:, 0, 0] @ matrix).norm(dim=-1), rtol=1e-10
    )
    u = tangent_points(images, torch.arange(3), mean=MEAN, std=STD, tangent=tangent)
    u = u.flatten(2) - points[:, 0, 0][:, None]
    np.testing.assert_allclose(
        table["hessian_sumsq"][base], ((u @ matrix) ** 2).sum((1, 2)), rtol=1e-8
    )
    assert table["accuracy"].max() <= 1


def test_linear_networks_have_no_curvature_beyond_the_softmax():
    linear = nn.Linear(48, 1, bias=False).double()
    network = nn.Sequential(nn.Flatten(), linear)  # one class: the loss is zero everywhere
    table = columns(
        measure(network, random_images(2, size=4), [0, 0], paths=SVDPaths(1, (2,)), **EXACT)
    )
    for name in ("crossentropy", "jacobian_norm", "hessian_sumsq"):
        assert not table[name].any()
    assert (table["accuracy"] == 1).all()


def test_the_result_does_not_depend_on_batches_memory_order_or_threads():
    network = build("convnet", width=2, num_classes=3, image_size=8)
    images, labels, ids = random_images(9), random_labels(9), np.arange(9) * 5 + 2
    settings = {**EXACT, "paths": PATHS}
    table = measure(network, images, labels, ids, **settings)
    assert_tables_close(table, measure(network, images, labels, ids, memory="120KiB", **settings))

    order = np.random.default_rng(0).permutation(9)
    shuffled = measure(network, images[order], labels[order], ids[order], **settings)
    assert_tables_close(
        table, shuffled.sort_by([("sample_id", "ascending"), ("volume", "ascending")])
    )

    batches = [(images[i : i + 4], labels[i : i + 4], ids[i : i + 4]) for i in (0, 4, 8)]
    assert_tables_close(table, measure(network, iter(batches), **settings))

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert_tables_close(table, measure(network, images, labels, ids, **settings))
    finally:
        torch.set_num_threads(threads)


def test_float32_agrees_within_the_stated_tolerance():
    network, images, labels = smooth(), random_images(9), random_labels(9)
    settings = {"mean": MEAN, "std": STD, "paths": PATHS}
    exact = measure(network, images, labels, dtype=torch.float64, **settings)
    single = measure(network, images, labels, **settings)
    assert_tables_close(single, exact, rtol=1e-5, hessian_rtol=1e-2)
    assert_tables_close(
        single, measure(network, images, labels, memory="60KiB", **settings), 1e-5, 1e-2
    )


def test_images_may_be_bytes_arrays_tensors_in_either_layout():
    network, labels = smooth().float(), random_labels(4)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    settings = {"mean": MEAN, "std": STD, "paths": PATHS}
    table = measure(network, pixels, labels, **settings)
    scaled = np.float32(pixels) / np.float32(255)
    for images in (
        torch.from_numpy(pixels.copy()),
        np.moveaxis(pixels, 3, 1),
        scaled,
        torch.from_numpy(scaled).permute(0, 3, 1, 2),
        torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous(),
    ):
        assert measure(network, images, labels, **settings).equals(table)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(pixels.copy()), labels)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    assert measure(network, loader, **settings).equals(table)


def test_an_ambiguous_layout_must_be_named():
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 2)).double()
    images, labels = random_images(2, size=3), [0, 1]
    with pytest.raises(UserError, match="layout='NCHW'"):
        measure(network, images, labels, volumes=0, **EXACT)
    first = measure(network, images, labels, volumes=0, layout="NCHW", **EXACT)
    second = measure(network, images.permute(0, 2, 3, 1), labels, volumes=0, layout="NHWC", **EXACT)
    assert first.equals(second)


def test_fewer_volumes_are_the_first_of_all():
    network, images, labels = smooth(), random_images(2), random_labels(2)
    table = measure(network, images, labels, paths=PATHS, **EXACT)
    volumes = table["volume"].to_numpy()
    for last in range(4):
        part = measure(network, images, labels, paths=PATHS, volumes=last, **EXACT)
        assert_tables_close(part, table.filter(volumes <= last))


def test_paths_of_length_zero_have_the_value_at_the_base():
    network = smooth()
    images = torch.full((1, 3, 8, 8), 0.25, dtype=torch.float64)
    table = columns(measure(network, images, [1], paths=SVDPaths(2, (3, 6)), **EXACT))
    assert not table["path_length"].any()
    for name in MEASURES:
        np.testing.assert_allclose(table[name], table[name][0], rtol=1e-12)


def test_tangent_points_are_evaluated_only_where_a_measure_needs_them():
    network, calls = smooth(), []
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    images, labels = random_images(2), random_labels(2)
    measure(network, images, labels, paths=PATHS, measures=["jacobian_norm"], **EXACT)
    looks = 1 + 2 + 17  # at the network: one image, two, and the checks of its contract
    assert sum(calls) == looks + 2 * (1 + 2 * 3)  # then each point once
    calls.clear()
    measure(network, images, labels, paths=PATHS, **EXACT)
    assert sum(calls) == looks + 2 * (1 + 2 * 3) * (1 + 4)


def test_grey_images_of_other_channels():
    network = smooth(channels=1)
    grey = measure(
        network, random_images(2, channels=1), [0, 1], mean=[0.5], std=[0.2], paths=PATHS
    )
    assert grey.num_rows == 8
    network = smooth(channels=2)
    settings = {"mean": [0.5] * 2, "std": [0.2] * 2, "paths": PATHS}
    with pytest.raises(UserError, match="2 channels"):
        measure(network, random_images(2, channels=2), [0, 1], **settings)
    images = random_images(2, channels=2)
    assert measure(network, images, [0, 1], measures=["accuracy"], **settings).num_rows == 8


def test_the_network_is_left_as_it_is():
    network = smooth().train()
    before = copy.deepcopy(network.state_dict())
    measure(network, random_images(2), random_labels(2), paths=PATHS, **EXACT)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_torchvision_resnet_and_a_loader():
    from torchvision.models import resnet18

    network = resnet18(num_classes=3)
    images, labels = random_images(2, size=32).float(), random_labels(2)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), batch_size=1
    )
    paths = SVDPaths(1, (20,))
    table = columns(measure(network, loader, mean=MEAN, std=STD, paths=paths))
    network.eval()
    for n in range(2):
        point = normalised(images[n]).float()
        loss, _, gradient = loss_and_gradient(network, point, labels[n])
        assert table["crossentropy"][2 * n] == pytest.approx(loss, rel=1e-4)
        assert table["jacobian_norm"][2 * n] == pytest.approx(float(gradient.norm()), rel=1e-3)
    assert np.isfinite(table["hessian_sumsq"]).all() and table["path_length"][1] > 0


def test_progress_counts_samples():
    calls = []
    measure(
        smooth(),
        random_images(5),
        random_labels(5),
        paths=PATHS,
        memory="120KiB",
        progress=lambda done, total: calls.append((done, total)),
        **EXACT,
    )
    assert calls[-1] == (5, 5)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(calls) > 1


NAN = random_images(3)
NAN[2, 0, 0, 0] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.rand(3, 8, 8)}, r"images has shape \[3, 8, 8\]"),
        ({"images": torch.rand(3, 4, 8, 8)}, "3 channels"),
        ({"images": torch.rand(0, 3, 8, 8)}, "not empty"),
        ({"images": NAN}, "images holds NaN"),
        ({"images": 2 * random_images(3)}, r"expected \[0,1\] pixel values"),
        ({"images": normalised(random_images(3))}, "before normalisation"),
        ({"images": torch.zeros(3, 3, 8, 8, dtype=torch.int64)}, "type torch.int64"),
        ({"images": 3}, "images is a int"),
        ({"layout": "CHWN"}, "layout is 'CHWN'"),
        ({"layout": "NHWC"}, "layout NHWC with 3 channels"),
        ({"labels": None}, "labels is missing"),
        ({"labels": [0, 1, 3]}, "labels range from 0 to 3, but the network has 3 outputs"),
        ({"labels": [0, -1, 2]}, "labels range from -1"),
        ({"labels": [0, 1]}, r"labels has shape \[2\]"),
        ({"labels": [0.0, 1.0, 2.0]}, "labels holds values of type"),
        ({"sample_ids": [1, 2, 1]}, "sample_ids holds 1 more than once"),
        ({"sample_ids": [1, 2]}, r"sample_ids has shape \[2\]"),
        ({"paths": SVDPaths(4, (5, 6))}, "9 smallest singular values"),
        ({"measures": ("loss",)}, "measures names 'loss'"),
        ({"measures": ()}, "at least one name"),
        ({"volumes": 4}, "volumes is 4; expected 0 to 3"),
        ({"mean": (0.5, 0.5)}, "mean is"),
        ({"std": (0.0, 1, 1)}, "std positive"),
        ({"device": "mps"}, "device mps lacks"),
        ({"device": "cuda:77"}, "cuda:77 cannot be used"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"dtype": torch.bfloat16}, "dtype is torch.bfloat16"),
        ({"memory": "plenty"}, "memory is 'plenty'"),
        ({"memory": 1000}, "need at least"),
        ({"images": [random_images(3)]}, "labels and sample_ids go with an array"),
    ],
)
def test_wrong_arguments(changes, message):
    evaluated = []
    network = smooth()
    network.register_forward_hook(lambda *_: evaluated.append(1))
    arguments = {"images": random_images(3), "labels": [0, 1, 2], "paths": PATHS, **EXACT}
    with pytest.raises(UserError, match=message):
        measure(network, **(arguments | changes))
    assert len(evaluated) <= 2  # nothing but the looks at the network, with one image and two


def test_weights_that_are_not_finite():
    network = smooth()
    network.linear.bias.data[0] = float("inf")
    with pytest.raises(UserError, match=r"linear\.bias holds NaN or infinite"):
        measure(network, random_images(1), [0], paths=PATHS, **EXACT)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "yielded no batch"),
        ([random_images(2)], "yielded a Tensor"),
        ([(random_images(2), [0, 1], [0, 1]), (random_images(1), [0], [1])], "more than once"),
        ([(random_images(2), [0, 1]), (random_images(2, size=6), [0, 1])], "one size"),
        ([("images", [0, 1])], "images is a str"),
    ],
)
def test_wrong_batches(batches, message):
    with pytest.raises(UserError, match=message):
        measure(smooth(), batches, paths=PATHS, **EXACT)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from the kernel")
def test_memory_stays_within_the_budget_whatever_the_number_of_images():
    code = """
import resource, sys, torch
from smoothdescent.networks.registry import build
from smoothdescent.sharpness import measure
torch.set_num_threads(1)
network = build("convnet", width=16, num_classes=10, image_size=32)
images, labels = torch.rand(64, 3, 32, 32), torch.zeros(64, dtype=torch.int64)
settings = dict(mean=[.5] * 3, std=[.2] * 3, measures=["jacobian_norm"])
measure(network, images[:1], labels[:1], memory="8MiB", **settings)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measure(network, images, labels, memory=sys.argv[1], **settings)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    for budget in (24, 48):
        command = [sys.executable, "-c", code, f"{budget}MiB"]
        grown = int(subprocess.run(command, check=True, capture_output=True).stdout)
        assert grown < budget * 1024


class Roomless(nn.Module):
    """Needs more memory than there is for more than some inputs, as a GPU that others use may."""

    def __init__(self, most, calls=10**6):
        super().__init__()
        self.inner, self.most, self.calls = smooth(), most, calls

    def forward(self, x):
        self.calls -= 1
        if len(x) > self.most or self.calls < 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.inner(x)


def test_out_of_memory_is_said_once_and_measured_in_smaller_batches(capsys):
    images, labels = random_images(9), random_labels(9)
    arguments = {"images": images, "labels": labels, "paths": PATHS, **EXACT}
    done = []
    found = measure(Roomless(8), **arguments, progress=lambda n, total: done.append(n))
    assert_tables_close(found, measure(smooth(), **arguments))
    assert capsys.readouterr().err.count("out of memory; measuring in smaller batches") == 1
    assert done[-1] == 9 and done == sorted(set(done))


def test_out_of_memory_for_a_single_input(monkeypatch):
    monkeypatch.setattr(FrozenNetwork, "check", lambda *_: None)  # which evaluates four images
    with pytest.raises(UserError, match="device cpu is out of memory for one sample"):
        measure(Roomless(2, calls=2), random_images(3), random_labels(3), paths=PATHS, **EXACT)
