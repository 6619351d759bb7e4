# %% [markdown]
# # How sharply does your network fit its training images?
#
# A small network is trained on drawn images, some with wrong labels, until it fits them all. Then
# the loss around each image is measured in input space, and drawn for clean and noisy samples. Put
# your own images and network into the next two cells. All takes seconds on a CPU, and matplotlib
# beside the library: `pip install smoothdescent matplotlib`.

import numpy as np
import torch
from matplotlib import pyplot
from torch import nn

from smoothdescent.figures import plot_sharpness
from smoothdescent.sharpness import SVDPaths, Tangent, hessian_norm, measure

# %% Your images: uint8 [N, C, H, W], not normalised, and the labels trained on, int64 [N]
SIZE, SAMPLES, NOISE = 16, 120, 0.2
random = np.random.default_rng(0)
rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
SHAPES = {
    "disc": np.hypot(rows, columns) < 5,
    "square": np.maximum(abs(rows), abs(columns)) < 5,
    "cross": np.minimum(abs(rows), abs(columns)) < 2,
}

labels_true = random.integers(len(SHAPES), size=SAMPLES)
shapes = np.stack([*SHAPES.values()])[labels_true]  # bool [N, H, W]
shifts = random.integers(-2, 3, size=(SAMPLES, 2))
shapes = np.stack([np.roll(s, by, axis=(0, 1)) for s, by in zip(shapes, shifts, strict=True)])
colours = random.uniform(50, 200, size=(2, SAMPLES, 3, 1, 1))  # of ground and shape
pixels = np.where(shapes[:, None], *colours) + random.normal(0, 20, (SAMPLES, 3, SIZE, SIZE))
images = pixels.clip(0, 255).astype(np.uint8)

is_noisy = random.random(SAMPLES) < NOISE
others = (labels_true + random.integers(1, len(SHAPES), size=SAMPLES)) % len(SHAPES)
labels = np.where(is_noisy, others, labels_true)

# %% Your network: any module from normalised images to logits, trained in any way
mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
torch.manual_seed(0)
network = nn.Sequential(
    *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(16 * (SIZE // 4) ** 2, len(SHAPES))),
)
inputs = (torch.tensor(images) / 255 - 0.5) / 0.25
targets = torch.tensor(labels)
optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
for _ in range(50):  # epochs
    for batch in torch.randperm(SAMPLES).split(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
        optimizer.step()
accuracy = (network(inputs).argmax(dim=1) == targets).float().mean()
print(f"accuracy on the labels trained on: {accuracy:.0%}")

# %% Measure: volume 0 is the image, volume k the paths from it up to their k-th augmentation
tangent = Tangent(jitters=4, step_size=0.1)
paths = SVDPaths(directions=2, strengths=(2, 4, 6, 8, 10, 12))  # singular values erased, of 16
table = measure(network, images, labels, mean=mean, std=std, paths=paths, tangent=tangent)
norm = hessian_norm(table["hessian_sumsq"], tangent.jitters, tangent.step_size)
table = table.append_column("hessian_norm", [norm])
table = table.append_column("is_noisy", [is_noisy[table["sample_id"]]])
print(f"{table.num_rows} rows, with the columns {', '.join(table.column_names)}")

# %% Draw: are the noisy samples interpolated by spikes, or is the loss as flat around them?
figure, axes = pyplot.subplots(1, 4, figsize=(14, 3), layout="constrained")
names = ("accuracy", "crossentropy", "jacobian_norm", "hessian_norm")
for ax, name in zip(axes, names, strict=True):
    plot_sharpness(table, name, ax)
figure.savefig("sharpness.png")
pyplot.show()
