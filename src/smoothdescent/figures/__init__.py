"""The figures of the paper, drawn from the tables of the experiments.

A figure selects, averages over seeds and plots; it never computes a measure. This module holds the
catalogue alone, so that a workflow can read it without loading a plotting library.
"""

# Experiments that a figure reads. The first is its subject; panels of the others are left out
# when their tables are not given.
FIGURES: dict[str, tuple[str, ...]] = {
    "figure1": ("convnet-cifar10-noise20", "convnet-cifar100"),
    "figure2": ("convnet-cifar10-noise20",),
    "figure3": ("convnet-cifar10-noise20",),
    "figure4": ("convnet-cifar100",),
    "figure5": ("convnet-cifar10-noise20",),
    "figure6": ("resnet18-cifar10-noise20",),
    "figure7": ("convnet-cifar100-asymmetric",),
    "figure8": ("resnet18-cifar10-noise20", "convnet-cifar10-noise20"),
}
