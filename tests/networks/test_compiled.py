"""What networks with compiled kernels share."""

import pytest
import torch

from smoothdescent.networks import compiled
from smoothdescent.networks.convnet import ConvNet
from smoothdescent.networks.resnet18 import ResNet18


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("build", [lambda: ConvNet(3, 10, 16), lambda: ResNet18(3, 10)])
def test_a_network_keeps_to_the_kernels_that_it_began_with(build, monkeypatch):
    pytest.importorskip("numba")
    network = build().eval()
    calls = compiled.kernels(network.KERNELS)
    assert network.kernels == "torch" and network.input_gradients(torch.ones(1), None) is None
    for faster, chosen in ((True, "compiled"), (False, "torch")):
        monkeypatch.setattr(calls, "are_faster", lambda *_, faster=faster: faster)
        network.choose_kernels()
        assert network.kernels == chosen
        together = network.evaluated_together(torch.ones(1, 3, 16, 16))
        assert together == (compiled.kernels("layout").BLOCK if faster else 1)
        for wanted in ("compiled", "torch"):
            network.choose_kernels(wanted)
            assert network.kernels == wanted
