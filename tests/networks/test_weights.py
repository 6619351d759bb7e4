"""Weights of another number type, under other names, or under several."""

import pytest
import torch
from safetensors.torch import save_file, save_model
from training.networks import UsedTwice

from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import load_weights, save_weights, weights_dtypes


def convnet():
    torch.manual_seed(0)
    return build("convnet", width=2, num_classes=10, image_size=8)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.int64]
)
def test_numbers_that_lose_their_meaning(dtype, tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = convnet().state_dict()
    tensors["linear.bias"] = tensors["linear.bias"].to(dtype)
    save_file(tensors, path)
    with pytest.raises(UserError, match=rf"tensor linear\.bias holds {dtype}.*torch\.float32"):
        load_weights(path, convnet())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_round(dtype, tmp_path):
    path, network = tmp_path / "w.safetensors", convnet()
    save_file({k: v.to(dtype) for k, v in network.state_dict().items()}, path)
    other = build("convnet", width=2, num_classes=10, image_size=8)
    load_weights(path, other)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.to(dtype).float(), two)
    assert weights_dtypes(path) in ("F16", "BF16", "F64")


def test_a_number_beyond_the_precision(tmp_path):
    path, tensors = tmp_path / "w.safetensors", convnet().double().state_dict()
    tensors["linear.bias"][0] = 1e300
    save_file(tensors, path)
    with pytest.raises(UserError, match="infinite"):
        load_weights(path, convnet())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrappers_are_named(prefix, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({f"{prefix}{k}": v for k, v in convnet().state_dict().items()}, path)
    with pytest.raises(UserError, match=f"the prefix '{prefix}' of a wrapper"):
        load_weights(path, convnet())


@pytest.mark.parametrize(
    "save", [lambda network, path: save_weights(path, network, {}), save_model]
)
def test_shared_tensors(save, tmp_path):
    torch.manual_seed(0)
    network, other = UsedTwice(1, 10), UsedTwice(1, 10)
    save(network, tmp_path / "w.safetensors")
    load_weights(tmp_path / "w.safetensors", other)
    assert other.third is other.second
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(network(x), other(x))
