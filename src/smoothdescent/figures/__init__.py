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
_PAPERS = {name for experiments in FIGURES.values() for name in experiments}


def shown_experiments(figure: str) -> tuple[str, ...]:
    """Return the experiments that a figure shows; any other name is that of an experiment."""
    return FIGURES.get(figure, (figure,))


def figures_of(experiments: list[str]) -> list[str]:
    """Return the figures of a study: the paper's whose subject it has, one for each other."""
    papers = [name for name, shown in FIGURES.items() if shown[0] in experiments]
    return [*papers, *(name for name in experiments if name not in _PAPERS)]
