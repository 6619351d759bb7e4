"""Networks written out in the plainest way."""

from torch.nn import functional


def plain_convnet(network, x):
    """Return a ConvNet's logits: convolution, ReLU, pooling after stages 2 to 4 and of the rest."""
    for stage, convolution in enumerate(network.convolutions, start=1):
        x = functional.relu(convolution(x))
        if stage > 1:
            x = functional.max_pool2d(x, 2)
    return network.linear(functional.max_pool2d(x, x.shape[-1]).flatten(1))
