"""Networks written out in the plainest way."""

from torch import nn
from torch.nn import functional


def plain_convnet(network, x):
    """Return a ConvNet's logits: convolution, ReLU, pooling after stages 2 to 4 and of the rest."""
    for stage, convolution in enumerate(network.convolutions, start=1):
        x = functional.relu(convolution(x))
        if stage > 1:
            x = functional.max_pool2d(x, 2)
    return network.linear(functional.max_pool2d(x, x.shape[-1]).flatten(1))


def plain_resnet18(network, x):
    """Return a ResNet18's logits, from plain convolutions and batch norms."""

    def normed(layer, x):
        x = x[:, :, :: layer.skip, :: layer.skip]
        return layer.norm(layer.convolution(x))

    x = functional.relu(normed(network.stem, x))
    for stage in network.stages:
        for block in stage:
            y = normed(block.second, functional.relu(normed(block.first, x)))
            same = isinstance(block.shortcut, nn.Identity)
            x = functional.relu(y + (x if same else normed(block.shortcut, x)))
    return network.linear(x.mean(dim=(2, 3)))
