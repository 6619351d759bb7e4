"""What may stand in `config.yaml`: every key, its type, its range and its meaning.

All blocks are closed: an unknown key is an error. Keys of an experiment that determine the trained
weights are told apart from those that only say how long to train or what to look at
(`Experiment.training_identity`), so that training goes on where it stopped when `epochs` is raised.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from smoothdescent.config.types import Block, Count, Fraction, Name, Natural, Positive, Real
from smoothdescent.files import fingerprint
from smoothdescent.runs import run_name
from smoothdescent.sharpness.paths import PathSettings
from smoothdescent.training.optimizers import OptimizerSettings


def _expand_ranges(value: Any) -> Any:
    """Turn `1..64`, alone or inside a list, into the numbers it stands for."""
    items = value if isinstance(value, list) else [value]
    expanded: list[Any] = []
    for item in items:
        match = re.fullmatch(r"(\d+)\.\.(\d+)", item) if isinstance(item, str) else None
        expanded.extend(range(int(match[1]), int(match[2]) + 1) if match else [item])
    return expanded


def _increasing(values: list[int] | list[float]) -> None:
    if sorted(set(values)) != values:
        raise ValueError("must be increasing, without repetition")


Widths = Annotated[list[Natural], Field(min_length=1), BeforeValidator(_expand_ranges)]
Seeds = Annotated[list[Count], Field(min_length=1), BeforeValidator(_expand_ranges)]
Epochs = Annotated[list[Count], BeforeValidator(_expand_ranges)]


class RealSource(Block):
    """What sources of real images share: the moments that normalise them, per channel."""

    mean: tuple[Real, Real, Real] | None = Field(None, description="default: the source's")
    std: tuple[Positive, Positive, Positive] | None = Field(None, description="likewise")


class TorchvisionSource(RealSource):
    """CIFAR as its authors ship it: downloaded with a checksum, or an existing copy."""

    source: Literal["torchvision"]
    name: Literal["cifar10", "cifar100"] = Field(description="which data set")
    path: str = Field(description="folder that holds, or will hold, the archive")
    download: StrictBool = Field(True, description="fetch the archive if it is not in `path`")


class ParquetSource(RealSource):
    """A folder of Parquet shards in the layout of the Hugging Face hub."""

    source: Literal["parquet"]
    path: str = Field(description="folder with train-*.parquet and test-*.parquet")
    label_column: str | None = Field(None, description="default: label, else fine_label")


class ProceduralSource(Block):
    """Embedded images drawn from a seed: shifted random-field prototypes plus 1/f noise."""

    source: Literal["procedural"]
    seed: Count = 0
    classes: Annotated[int, Field(ge=2, strict=True)] = 10
    size: Natural = Field(16, description="height and width in pixels")
    train: Natural = Field(3000, description="training images")
    test: Natural = Field(2000, description="test images")
    prototypes: Natural = Field(3, description="prototypes of each class")
    max_shift: Count = Field(2, description="largest shift of a prototype in pixels")
    noise: Annotated[Real, Field(ge=0)] = Field(0.4, description="noise amplitude, prototypes' = 1")
    exponent: Real = Field(1.5, description="prototypes' amplitude falls as 1 / f ** exponent")
    noise_exponent: Real = Field(1.0, description="noise amplitude falls as 1 / f ** this")


Dataset = Annotated[
    TorchvisionSource | ParquetSource | ProceduralSource, Field(discriminator="source")
]


class SymmetricNoise(Block):
    """Exactly round(rate N) training labels replaced by one of the other classes."""

    kind: Literal["symmetric"]
    rate: Fraction
    seed: Count = 0


class AsymmetricNoise(Block):
    """In `classes` random classes, a fraction `rate` of the labels replaced (section 4.5)."""

    kind: Literal["asymmetric"]
    classes: Natural
    rate: Fraction
    seed: Count = 0


class Data(Block):
    """Which images an experiment trains on."""

    dataset: Name = Field(description="a key of `datasets`")
    image_size: Natural | None = Field(None, description="pixels, by averaging; default: stored")
    train_samples: Natural | None = Field(None, description="default: all that validation leaves")
    validation: Count = Field(0, description="training images held out")
    split_seed: Count = 0


class Augmentation(Block):
    """Random shifts (zero padding, then a crop of the old size) and horizontal flips."""

    shift: Count = Field(4, description="padding on each side in pixels; the largest shift")
    flip: StrictBool = Field(True, description="flip with probability 1/2")


class Measure(Block):
    """How the sharpness of the loss in input space is measured (sections 3.1 to 3.4)."""

    samples: Natural | None = Field(None, description="training images measured; default: all")
    paths: PathSettings
    jitters: Natural = Field(4, description="colour jitters M of the tangent Hessian")
    jitter_magnitude: Annotated[Positive, Field(lt=1)] = 0.01
    step_size: Positive = Field(0.1, description="delta of equation 5")
    step: Literal["delta", "full"] = "delta"
    hessian: Literal["equation5", "rms"] = Field("equation5", description="normalisation")
    seed: Count = 0
    dtype: Literal["float32", "float64"] = "float32"


class Experiment(Block):
    """One row of the study."""

    data: Data
    noise: Annotated[SymmetricNoise | AsymmetricNoise, Field(discriminator="kind")] | None = None
    network: str = Field(description="registry name, or import path package.module:factory")
    optimizer: OptimizerSettings
    augmentation: Augmentation | None = None
    batch_size: Natural
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="of the training's arithmetic; weights are float32 always"
    )
    widths: Widths
    seeds: Seeds
    epochs: Natural
    segments: Epochs = Field([], description="epochs at which the training is cut into jobs")
    snapshots: Epochs = Field([], description="epochs whose weights are kept; the last always is")
    evaluate_every: Natural = Field(10, description="epochs between exact evaluations")
    measure: Measure
    threshold_accuracy: Fraction = 0.9995

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        for key in ("widths", "seeds", "segments", "snapshots"):
            try:
                _increasing(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
        for key in ("segments", "snapshots"):
            beyond = [epoch for epoch in getattr(self, key) if epoch > self.epochs]
            if beyond:
                raise ValueError(
                    f"{key} lists epoch {beyond[0]}, but the training ends at epochs: {self.epochs}"
                )
        if 0 in self.segments:
            raise ValueError("segments lists epoch 0, where the first segment starts by itself")
        return self

    @property
    def boundaries(self) -> list[int]:
        """Epochs at which a segment ends; the last is `epochs`."""
        return sorted({*self.segments, self.epochs})

    def segment_start(self, end: int) -> int:
        """Return the epoch after which the segment that ends at `end` starts."""
        return max((epoch for epoch in self.boundaries if epoch < end), default=0)

    def snapshot_epochs(self, until: int) -> list[int]:
        """Return the epochs up to `until` whose weights are kept; the last epoch's always are."""
        wanted = {epoch for epoch in (*self.snapshots, self.epochs) if epoch <= until}
        return sorted(wanted)


class Study(Block):
    """The configuration in force: one scale, resolved."""

    scale: Name
    results: Annotated[str, Field(pattern=r"^\S+$", description="a path without spaces")]
    device: Literal["auto", "cpu", "cuda"]
    threads: Natural
    runs_per_job: Natural = Field(1, description="runs that one job trains, or measures, in turn")
    runs_at_once: Natural = Field(1, description="runs of a job that are trained side by side")
    measure_after: Literal["segment", "training"] = Field(
        "segment", description="measure snapshots while the training goes on, or at its end"
    )
    longest_job_hours: Positive = Field(12, description="limit of the time a cluster job asks for")
    memory: Annotated[str, Field(pattern=r"^\s*[1-9]\d*(\.\d*)?\s*([KMG]i?)?B?\s*$")]
    autosave_minutes: Positive
    datasets: dict[Name, Dataset]
    experiments: dict[Name, Experiment]

    @model_validator(mode="after")
    def _check(self) -> Study:
        if not self.experiments:
            raise ValueError("experiments is empty at this scale, expected at least one")
        for name, experiment in self.experiments.items():
            if experiment.data.dataset not in self.datasets:
                raise ValueError(
                    f"experiments.{name}.data.dataset is {experiment.data.dataset!r}, expected one "
                    f"of the data sets {', '.join(self.datasets)}"
                )
            self._check_measure(name, experiment)
        return self

    def _check_measure(self, name: str, experiment: Experiment) -> None:
        """Find out now what would otherwise fail after all the training."""
        where = f"experiments.{name}.measure"
        size = self._image_size(experiment)
        if size is not None:
            try:
                experiment.measure.paths.check(size)
            except ValueError as error:
                raise ValueError(f"{where}.paths.{error}") from None
        trained, wanted = experiment.data.train_samples, experiment.measure.samples
        if trained is not None and wanted is not None and wanted > trained:
            raise ValueError(
                f"{where}.samples is {wanted}, but data.train_samples is only {trained}"
            )

    def _image_size(self, experiment: Experiment) -> int | None:
        """Return the height of an experiment's images, as far as the configuration tells."""
        if experiment.data.image_size is not None:
            return experiment.data.image_size
        dataset = self.datasets[experiment.data.dataset]
        if isinstance(dataset, ProceduralSource):
            return dataset.size
        return 32 if isinstance(dataset, TorchvisionSource) else None

    def restricted_to(self, experiment: str) -> Study:
        """Return the study of one experiment and its data set alone."""
        dataset = self.experiments[experiment].data.dataset
        return self.model_copy(
            update={
                "experiments": {experiment: self.experiments[experiment]},
                "datasets": {dataset: self.datasets[dataset]},
            }
        )

    def packs(self, experiment: str) -> dict[str, list[str]]:
        """Return the runs of each job of an experiment, by the job's name.

        Jobs are called by their first and last run.
        """
        block, size = self.experiments[experiment], self.runs_per_job
        runs = [[run_name(width, seed) for seed in block.seeds] for width in block.widths]
        # Whole widths, or parts of one: another width then leaves the other jobs as they are.
        whole = size // len(block.seeds)
        if whole:
            groups = [runs[i : i + whole] for i in range(0, len(runs), whole)]
            packs = [list(chain.from_iterable(group)) for group in groups]
        else:
            packs = [row[i : i + size] for row in runs for i in range(0, len(row), size)]
        return {"-".join(dict.fromkeys((pack[0], pack[-1]))): pack for pack in packs}

    def identity(self) -> str:
        """Return a hash of the whole study."""
        return fingerprint(self.model_dump(mode="json"))

    def data_identity(self, dataset: str) -> str:
        """Return a hash of what determines the decoded data set."""
        # Where the images lie is not what they are: moving them must not cost a training. The label
        # table remembers the checksum of the images that it was made for.
        block = self.datasets[dataset].model_dump(mode="json", exclude={"path", "download"})
        return fingerprint(block)

    def label_settings(self, experiment: str) -> dict[str, Any]:
        """Return what determines the label table, beside the data set."""
        block = self.experiments[experiment]
        noise = block.noise.model_dump(mode="json") if block.noise else None
        return {
            "train_samples": block.data.train_samples,
            "validation": block.data.validation,
            "split_seed": block.data.split_seed,
            "noise_seed": noise.pop("seed") if noise else 0,
            "noise": noise,
        }

    def training_identity(self, experiment: str) -> str:
        """Return a hash of what determines the weights after a given epoch, width and seed."""
        block = self.experiments[experiment]
        return fingerprint(
            {
                "dataset": self.data_identity(block.data.dataset),
                "labels": self.label_settings(experiment),
                **block.model_dump(
                    mode="json",
                    include={
                        *("data", "network", "optimizer", "augmentation", "batch_size"),
                        *("precision", "evaluate_every"),
                    },
                ),
            }
        )

    def measure_identity(self, experiment: str) -> str:
        """Return a hash of what determines the sharpness of given weights."""
        # A normalisation is applied when tables are gathered and needs no new measurement.
        block = self.experiments[experiment].measure.model_dump(mode="json", exclude={"hessian"})
        return fingerprint(block)
