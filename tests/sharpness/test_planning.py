import pytest
import torch

from smoothdescent.errors import UserError
from smoothdescent.sharpness.planning import Plan, parse_memory, plan

CPU = torch.device("cpu")
SIZES = {
    "fixed_bytes": 0,
    "image_bytes": 12288,
    "points_per_sample": 25,
    "inputs_per_point": 5,
}


@pytest.mark.parametrize(
    ("text", "size"),
    [(1000, 1000), ("1000", 1000), ("2KiB", 2048), ("1.5 MiB", 3 * 2**19), ("4gb", 4 * 10**9)],
)
def test_budgets(text, size):
    assert parse_memory(text, CPU) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", 0, "3 parsecs", 1.5e-3])
def test_wrong_budgets(text):
    with pytest.raises(UserError, match="memory is"):
        parse_memory(text, CPU)


def test_batches_on_a_cpu_are_smaller_for_larger_networks():
    roomy = 2**30
    assert plan(roomy, CPU, saved_bytes=130_000, **SIZES).inputs == 200
    assert 100 <= plan(roomy, CPU, saved_bytes=480_000, **SIZES).inputs < 110
    assert plan(roomy, CPU, saved_bytes=5_000_000, **SIZES).inputs == 16


def test_batches_shrink_with_the_budget_down_to_one():
    plans = [
        plan(budget, CPU, saved_bytes=480_000, **SIZES)
        for budget in (2**30, 30 * 2**20, 10 * 2**20, 5 * 2**20, 3 * 2**20)
    ]
    for attribute in ("inputs", "points", "samples"):
        sizes = [getattr(chosen, attribute) for chosen in plans]
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1
    assert plans[0].points == plans[0].inputs // 5
    with pytest.raises(UserError, match="need at least"):
        plan(2**20, CPU, saved_bytes=480_000, **SIZES)


def test_what_is_stored_once_takes_room_from_the_budget_and_from_nothing_else():
    once = SIZES | {"fixed_bytes": 40 * 2**20}
    roomy, tight = 2**30, 96 * 2**20
    assert plan(roomy, CPU, saved_bytes=480_000, **once) == plan(
        roomy, CPU, saved_bytes=480_000, **SIZES
    )
    without, with_it = (plan(tight, CPU, saved_bytes=480_000, **sizes) for sizes in (SIZES, once))
    assert 1 <= with_it.inputs < without.inputs
    with pytest.raises(UserError, match="need at least"):
        plan(80 * 2**20, CPU, saved_bytes=480_000, **once)


@pytest.mark.parametrize(("jitters", "points_per_sample"), [(4, 25), (4, 1), (3, 13), (0, 25)])
def test_compiled_kernels_are_given_whole_blocks(jitters, points_per_sample):
    sizes = {"points_per_sample": points_per_sample, "inputs_per_point": 1 + jitters, "block": 32}
    chosen = plan(2**30, CPU, saved_bytes=480_000, **(SIZES | sizes))
    assert chosen.points * (1 + jitters) % 32 == 0 and chosen.points * (1 + jitters) > 200
    assert chosen.samples * points_per_sample * (1 + jitters) % 32 == 0
    tight = plan(3 * 2**20, CPU, saved_bytes=480_000, **(SIZES | sizes))
    assert tight.points * (1 + jitters) < 32 and tight.samples < chosen.samples


def test_half_a_plan():
    assert Plan(9, 4, 1).halved() == Plan(4, 2, 1)
    assert Plan(1, 1, 1).halved() == Plan(1, 1, 1)


def test_without_a_budget():
    assert parse_memory(None, CPU) == 2**30
