"""Draws are functions of their names."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from smoothdescent.randomness import derive_seed, generator, numpy_generator, sample_uniforms

IDS = torch.arange(20_000)


@given(st.integers(0, 2**40), st.text(max_size=8), st.integers(0, 10**6))
def test_seeds_are_in_range_and_differ_by_purpose_and_index(seed, purpose, index):
    drawn = {
        derive_seed(seed, purpose, index),
        derive_seed(seed, purpose, index + 1),
        derive_seed(seed + 1, purpose, index),
        derive_seed(seed, purpose + "'", index),
        derive_seed(seed, purpose),
    }
    assert len(drawn) == 5
    assert all(0 <= value < 2**63 for value in drawn)


def test_generators_repeat():
    for make in (generator, numpy_generator):
        first, second = make(1, "shuffle", 3), make(1, "shuffle", 3)
        if make is generator:
            assert torch.equal(
                torch.randperm(50, generator=first), torch.randperm(50, generator=second)
            )
        else:
            assert (first.permutation(50) == second.permutation(50)).all()


@given(st.permutations(range(12)), st.integers(1, 4))
def test_uniforms_belong_to_the_sample_not_its_position(order, columns):
    ids = torch.arange(12)
    order = torch.tensor(order)
    whole = sample_uniforms(3, "jitter", 1, sample_ids=ids, count=4)
    part = sample_uniforms(3, "jitter", 1, sample_ids=ids[order], count=columns)
    assert torch.equal(part, whole[order, :columns])


def test_uniforms_are_uniform_and_independent():
    draws = sample_uniforms(0, "test", sample_ids=IDS, count=4)
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-4
    correlation = torch.corrcoef(draws.T) - torch.eye(4)
    assert correlation.abs().max() < 0.04
    other = sample_uniforms(0, "other", sample_ids=IDS, count=1)
    pair = torch.stack([draws[:, 0], other[:, 0]])
    neighbours = torch.stack([draws[:-1, 0], draws[1:, 0]])
    for two in (pair, neighbours):
        assert torch.corrcoef(two)[0, 1].abs() < 0.04
