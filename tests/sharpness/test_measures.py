import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sharpness.references import MEAN, STD, normalised, random_images, random_labels, smooth

from smoothdescent.errors import UserError
from smoothdescent.sharpness import SVDPaths, input_gradients, measure, path_images
from smoothdescent.sharpness.measures import MEASURES, Measure, accuracy, measure_sources
from smoothdescent.sharpness.paths import PATH_FAMILIES

GUIDE = Path(__file__).parents[2] / "docs" / "sharpness.md"


@pytest.fixture
def documented():
    """Run the guide's two registration examples as they stand, and forget them afterwards."""
    registered = [
        block
        for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
        if "@register" in block
    ]
    assert len(registered) == 2
    before = dict(MEASURES), dict(PATH_FAMILIES)
    names = {}
    for block in registered:
        exec(compile(block, str(GUIDE), "exec"), names)
    yield names
    for registry, content in zip((MEASURES, PATH_FAMILIES), before, strict=True):
        registry.clear()
        registry.update(content)


def test_the_documented_measure(documented):
    network, images, labels = smooth().eval(), random_images(3), random_labels(3)
    table = measure(
        network,
        images,
        labels,
        mean=MEAN,
        std=STD,
        dtype=torch.float64,
        paths=SVDPaths(1, (2, 4)),
        measures=["margin", "accuracy"],
    )
    assert table.column_names == ["sample_id", "volume", "margin", "accuracy", "path_length"]
    logits = network(normalised(images)).detach()
    own = logits[range(3), labels]
    logits[range(3), labels] = -torch.inf
    base = table["volume"].to_numpy() == 0
    np.testing.assert_allclose(table["margin"].to_numpy()[base], own - logits.max(1).values)


def test_the_documented_path_family(documented):
    images = random_images(2)
    found = path_images(images, documented["paths"])
    assert found.shape[1] == 1
    torch.testing.assert_close(found[:, 0, 0], images)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(found[:, 0, -1], grey.expand_as(images))
    table = measure(
        smooth(), images, random_labels(2), mean=MEAN, std=STD, paths=documented["paths"]
    )
    assert set(table["volume"].to_pylist()) == set(range(found.shape[2]))


def test_other_points_can_be_fed_in_and_compared():
    """The public parts, put together, give the table's numbers."""
    from smoothdescent.sharpness import segment_lengths, volume_integrals

    network, images, labels = smooth(), random_images(3), random_labels(3)
    paths = SVDPaths(2, (2, 4))
    points = normalised(path_images(images, paths).flatten(0, 2))
    evaluated = input_gradients(network, points, labels.repeat_interleave(2 * 3))
    norms = evaluated.gradient.flatten(1).norm(dim=1).view(3, 2, 3)
    lengths = segment_lengths(points.view(3, 2, 3, *images.shape[1:]))
    table = measure(network, images, labels, mean=MEAN, std=STD, paths=paths, dtype=torch.float64)
    np.testing.assert_allclose(
        table["jacobian_norm"].to_numpy(), volume_integrals(norms, lengths).ravel(), rtol=1e-10
    )


def test_a_measure_without_source_is_refused(monkeypatch):
    """Its code determines results, and is part of what a table says it was measured with."""
    odd = Measure("odd", functools.partial(accuracy), False, False)
    monkeypatch.setitem(MEASURES, "odd", odd)
    with pytest.raises(UserError, match="measure 'odd' is a partial without source code"):
        measure_sources(["accuracy", "odd"])
