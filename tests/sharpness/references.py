"""Networks and independent, unhurried references for the sharpness engine."""

import torch
from torch import nn

MEAN, STD = (0.5, 0.45, 0.4), (0.2, 0.25, 0.3)


class Smooth(nn.Module):
    """A smooth convolutional network with batch norm: derivatives of every order exist."""

    def __init__(self, classes=3, channels=3, size=8):
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * size * size, classes)
        # Other statistics than the initial ones, so that the two modes differ.
        self.norm.running_mean.uniform_(-0.2, 0.2)
        self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.linear(torch.tanh(self.norm(self.convolution(x))).flatten(1))


def smooth(seed=0, **settings):
    torch.manual_seed(seed)
    return Smooth(**settings).double()


def random_images(count, size=8, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)


def random_labels(count, classes=3, seed=0):
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def normalised(images):
    shape = (-1, 1, 1)
    return (images - torch.tensor(MEAN, dtype=torch.float64).view(shape)) / torch.tensor(
        STD, dtype=torch.float64
    ).view(shape)


def loss_and_gradient(network, point, label):
    """Return loss, correctness and gradient at one normalised point [C, H, W], alone in a batch."""
    network.eval()
    point = point.clone().requires_grad_()
    logits = network(point[None])[0]
    loss = -torch.log_softmax(logits, dim=0)[label]
    (gradient,) = torch.autograd.grad(loss, point)
    return float(loss.detach()), float(logits.argmax() == label), gradient
