"""Networks as users bring them: `network: training.networks:NAME`."""

import random
import threading

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def body(width, num_classes, *layers):
    """Return a small network; the layers come before its last one."""
    return nn.Sequential(
        nn.Conv2d(3, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        *layers,
        nn.Linear(16 * width, num_classes),
    )


def plain(width, num_classes):
    """Nothing special."""
    return body(width, num_classes)


def dropout(width, num_classes):
    """Draws from PyTorch's generator of the device."""
    return body(width, num_classes, nn.Dropout(0.5))


class _Depth(nn.Module):
    """Leaves a block out, by chance, in training mode; `draw` gives a number in [0, 1)."""

    def __init__(self, width, num_classes, draw):
        super().__init__()
        self.first, self.draw = nn.Conv2d(3, 4 * width, 3, padding=1), draw
        self.second = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.first(x).relu()
        if not self.training or self.draw() < 0.5:
            x = x + self.second(x).relu()
        return self.head(x.mean((2, 3)))


def depth_torch(width, num_classes):
    """Stochastic depth, drawn by PyTorch."""
    return _Depth(width, num_classes, lambda: torch.rand(()).item())


def depth_python(width, num_classes):
    """Stochastic depth, drawn by Python."""
    return _Depth(width, num_classes, random.random)


def depth_numpy(width, num_classes):
    """Stochastic depth, drawn by NumPy."""
    return _Depth(width, num_classes, np.random.rand)


class UsedTwice(nn.Module):
    """One layer under two names."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.first = nn.Conv2d(3, 4 * width, 3, padding=1)
        self.second = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.third = self.second
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.head(functional.relu(self.third(x)).mean((2, 3)))


def weight_norm(width, num_classes):
    """The old weight norm, whose modules cannot be copied."""
    network = plain(width, num_classes)
    network[0] = nn.utils.weight_norm(network[0])
    return network


def lazy(width, num_classes):
    """A layer that takes its size from the first image."""
    return nn.Sequential(
        nn.LazyConv2d(4 * width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes)
    )


class Keeps(nn.Module):
    """Keeps a lock and its last activations as attributes."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.body, self.lock, self.kept = plain(width, num_classes), threading.Lock(), []

    def forward(self, x):
        with self.lock:
            self.kept = [self.body[0](x)]
            return self.body[1:](self.kept[0])


def spectral_norm(width, num_classes):
    """Its power iteration is a buffer that training changes and evaluation does not."""
    network = plain(width, num_classes)
    network[0] = nn.utils.parametrizations.spectral_norm(network[0])
    return network


class _Around(nn.Module):
    """A plain network; derived classes change what it is given or returns."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.body = plain(width, num_classes)

    def forward(self, x):
        return self.body(x)


class InPlaceData(_Around):
    def forward(self, x):
        x.data.mul_(0.5)
        return self.body(x)


class InPlace(_Around):
    def forward(self, x):
        with torch.no_grad():
            x.mul_(0.5)
        return self.body(x)


def in_place_layer(width, num_classes):
    return nn.Sequential(nn.ReLU(inplace=True), plain(width, num_classes))


def batch_statistics(width, num_classes):
    network = plain(width, num_classes)
    network[1] = nn.BatchNorm2d(4 * width, track_running_stats=False)
    return network


class DropsAlways(_Around):
    def forward(self, x):
        return functional.dropout(self.body(x), 0.5, training=True)


class Counts(_Around):
    """Its buffer counts evaluations too."""

    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return self.body(x)


class Switches(_Around):
    def forward(self, x):
        self.body.train()
        return self.body(x)


class CastsToHalf(_Around):
    def forward(self, x):
        x = functional.conv2d(x.half(), self.body[0].weight.half(), padding=1).to(x.dtype)
        return self.body[1:](x)


class Autocasts(_Around):
    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.body(x).to(x.dtype)


class ReturnsBfloat16(_Around):
    def forward(self, x):
        return self.body(x).bfloat16()


class CastsToFloat(_Around):
    """Promises float64 and computes in float32."""

    def forward(self, x):
        weight = self.body[0].weight.float()
        return self.body[1:](functional.conv2d(x.float(), weight, padding=1).to(x.dtype))


class Asserts(_Around):
    def forward(self, x):
        assert len(x) > 100, "too few images"
        return self.body(x)


class Views(_Around):
    def forward(self, x):
        x = self.body[0](x)
        x = x.view(len(x), -1).unflatten(1, (-1, 8, 8))
        return self.body[4](functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Pairs(_Around):
    def forward(self, x):
        return self.body(x), x


class ExtraState(_Around):
    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        pass


class Remembers(_Around):
    """Counts its training steps where no state dictionary looks."""

    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        return self.body(x) * (1 + self.steps)


class OwnGenerator(_Around):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, x):
        logits = self.body(x)
        if self.training:
            logits = logits * torch.rand(logits.shape, generator=self.draw)
        return logits


class DrawsAnyhow(_Around):
    """Initialised from a generator that nobody seeds."""

    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        with torch.no_grad():
            noise = np.random.default_rng().random(self.body[0].weight.shape)
            self.body[0].weight += torch.from_numpy(noise)


class RandomFeatures(_Around):
    """A random projection that is neither a parameter nor a buffer."""

    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.features = torch.rand(num_classes)

    def forward(self, x):
        return self.body(x) * self.features


def scripted(width, num_classes):
    return torch.jit.script(plain(width, num_classes))


def frozen(width, num_classes):
    return plain(width, num_classes).requires_grad_(False)


def too_many_classes(width, num_classes):
    return plain(width, num_classes + 1)


class Unused(_Around):
    """Has a layer that nothing depends on."""

    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.spare = nn.Linear(2, 2)


class _ReadsBack(nn.Module):
    """Decides on the host by a number from the device, which no CUDA graph can hold."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.body = body(width, num_classes)

    def forward(self, x):
        return self.body(x if x.mean().item() < 100 else x * 0.5)


def reads_back(width, num_classes):
    """Reads a number back from its device in each evaluation."""
    return _ReadsBack(width, num_classes)
