"""What may stand in `config.yaml`: every key, its type, its range and its meaning.

All blocks are closed: an unknown key is an error. What determines the trained weights
(`training_identity`) is told apart from how long to train and what to look at, so that a training
resumes when `epochs` is raised.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from smoothdescent.config.types import (
    Block,
    Count,
    Fraction,
    Name,
    Natural,
    PlainPlace,
    Positive,
    Seed,
)
from smoothdescent.data.sources import Dataset
from smoothdescent.errors import UserError
from smoothdescent.files import fingerprint
from smoothdescent.sharpness.paths import PathSettings
from smoothdescent.sharpness.planning import parse_bytes
from smoothdescent.tables.columns import STANDARD_MEASURES, check_measures
from smoothdescent.training.optimizers import OptimizerSettings

LONGEST_RANGE = 10_000
# Rules of the workflow, which the figure of an experiment would be called as, and folders of its
# results, among which the experiment's would be.
RESERVED = re.compile(
    r"all|train|measure|tables|plan|verdict|explore|dump_config|prepare_data|make_labels|gather_tables|"
    r"draw_figure|decide_verdict|figure\d+|(train|measure)_.*|crate|data|figures|logs|"
    r"benchmarks|partial"
)


def _expand_ranges(value: Any) -> Any:
    """Turn `1..64`, alone or inside a list, into the numbers it stands for."""
    items = value if isinstance(value, list) else [value]
    expanded: list[Any] = []
    for item in items:
        match = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", item) if isinstance(item, str) else None
        if match and int(match[2]) - int(match[1]) >= LONGEST_RANGE:
            raise ValueError(f"found {item!r}; expected a range of at most {LONGEST_RANGE} numbers")
        expanded.extend(range(int(match[1]), int(match[2]) + 1) if match else [item])
    return expanded


# The families of `smoothdescent.networks`, which needs torch.
NETWORK_FAMILIES = ("convnet", "resnet18")
# The least memory budget: it holds the paths of a few images and one input of a network.
LEAST_MEMORY = 16 * 2**20


def _check_memory(value: str) -> str:
    expected = "expected a number of bytes such as 512MiB or 4GiB"
    if not re.fullmatch(r"\s*\d+(\.\d*)?\s*([KMG]i?)?B?\s*", value):
        raise ValueError(f"found {value!r}; {expected}")
    try:
        size = parse_bytes(value)  # as a job will
    except UserError:
        raise ValueError(f"found {value!r}; {expected}") from None
    if size < LEAST_MEMORY:
        raise ValueError(f"found {value!r}; expected at least {LEAST_MEMORY // 2**20}MiB")
    return value


def _check_network(value: str) -> str:
    if ":" not in value and value not in NETWORK_FAMILIES:
        raise ValueError(
            f"found {value!r}; expected one of {', '.join(NETWORK_FAMILIES)}, or an import path "
            "such as my_package.my_module:MyNetwork"
        )
    return value


def _increasing(values: list[int] | list[float]) -> None:
    if sorted(set(values)) != values:
        raise ValueError("must be increasing, without repetition")


Widths = Annotated[list[Natural], Field(min_length=1), BeforeValidator(_expand_ranges)]
Seeds = Annotated[list[Seed], Field(min_length=1), BeforeValidator(_expand_ranges)]
Epochs = Annotated[list[Count], BeforeValidator(_expand_ranges)]
Memory = Annotated[str, AfterValidator(_check_memory)]


NOISE_SEED = Field(0, description="one labelling, for all widths and training seeds")


class SymmetricNoise(Block):
    """Exactly round(rate N) training labels replaced by one of the other classes."""

    kind: Literal["symmetric"]
    rate: Fraction = Field(description="share of the training labels")
    seed: Seed = NOISE_SEED


class AsymmetricNoise(Block):
    """In `classes` random classes, a fraction `rate` of the labels replaced (section 4.5)."""

    kind: Literal["asymmetric"]
    classes: Natural = Field(description="how many classes are corrupted")
    rate: Fraction = Field(description="share of the training labels of each of them")
    seed: Seed = NOISE_SEED


class Data(Block):
    """Which images an experiment trains on."""

    dataset: Name = Field(description="a key of `datasets`")
    image_size: Natural | None = Field(
        None, description="pixels, averaged over blocks; null: as stored"
    )
    train_samples: Natural | None = Field(None, description="null: all that `validation` leaves")
    validation: Count = Field(0, description="training images held out")
    split_seed: Seed = Field(0, description="of what is held out, and of the training images taken")


class Augmentation(Block):
    """Random shifts (zero padding, then a crop of the old size) and horizontal flips."""

    shift: Count = Field(
        4, le=1024, description="padding on each side in pixels; the largest shift"
    )
    flip: StrictBool = Field(True, description="flip with probability 1/2")


class Measuring(Block):
    """How the sharpness of the loss in input space is measured (sections 3.1 to 3.4)."""

    measures: list[str] = Field(
        list(STANDARD_MEASURES), description="some of these, or package.module:name of your own"
    )
    samples: Natural | None = Field(
        None, description="training images measured, drawn at random; null: all"
    )
    paths: PathSettings = Field(
        description="the `directions` of an image's paths, and the increasing `strengths` of the "
        "augmentations on each: singular values erased (svd) or pixels (shift)"
    )
    jitters: Natural = Field(4, le=1000, description="colour jitters M of the tangent Hessian")
    jitter_magnitude: Positive = Field(
        0.01, lt=1, description="brightness, contrast, saturation: 1 - this to 1 + this"
    )
    step_size: Positive = Field(0.1, description="delta of equation 5")
    step: Literal["delta", "full"] = Field(
        "delta", description="gradients at x + delta u, or at x + u"
    )
    hessian: Literal["equation5", "rms"] = Field(
        "equation5", description="normalisation of the Hessian norm"
    )
    seed: Seed = Field(0, description="of the jitters, and of the images measured")
    dtype: Literal["float32", "float64"] = Field("float32", description="of the measurement")

    @model_validator(mode="after")
    def _check(self) -> Measuring:
        check_measures(self.measures)
        return self


class FinalSnapshots(Block):
    """The checkpoints whose mean stands for the end of a training; the last is the last epoch's."""

    count: Natural = Field(1, description="checkpoints; each is measured over all volumes")
    every: Natural = Field(20, description="epochs from one to the next")


class Threshold(Block):
    """When a width counts as interpolating the training labels."""

    accuracy: Fraction = Field(0.9995, description="training accuracy that counts as 100 %")
    statistic: Literal["median", "mean", "min"] = Field(
        "median", description="over the late evaluations of a run, and then over seeds"
    )


class StopBelow(Block):
    """When a run that no longer changes stops training."""

    loss: Positive = Field(description="exact training loss in nats, all samples")
    for_epochs: Natural = Field(description="epochs for which it has stayed below")


class Training(Block):
    """How a network is trained."""

    network: Annotated[str, AfterValidator(_check_network)] = Field(
        description="registry name, or import path package.module:factory"
    )
    optimizer: OptimizerSettings = Field(
        description="the `learning_rate` rises linearly over `warmup_epochs` and then follows the "
        "`schedule`: constant, or divided by sqrt(1 + floor(step / 512)); sgd has a `momentum` too"
    )
    augmentation: Augmentation | None = None
    batch_size: Natural = Field(description="images in a step")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="of the training's arithmetic; weights are float32 always"
    )
    evaluate_every: Natural = Field(10, description="epochs between exact evaluations")
    stop_below: StopBelow | None = Field(None, description="null: every epoch is trained")


class Experiment(Training):
    """One row of the study."""

    data: Data
    noise: Annotated[SymmetricNoise | AsymmetricNoise, Field(discriminator="kind")] | None = None
    widths: Widths = Field(description="base widths w; `1..64` stands for 1, 2, ..., 64")
    seeds: Seeds = Field(description="of initialisation, order of samples and augmentation")
    seeds_per_job: Natural = Field(1, description="runs of a width that one job trains or measures")
    epochs: Natural = Field(description="length of a training; may be raised later")
    snapshots: Epochs = Field(
        [], description="epochs whose weights are kept, beside the final ones"
    )
    final_snapshots: FinalSnapshots = FinalSnapshots()
    measure: Measuring
    threshold: Threshold = Threshold()
    bands: Literal["std", "interval"] = Field(
        "std",
        description="of figures, over seeds: standard deviation, or 95 % interval of the mean",
    )

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        for key in ("widths", "seeds", "snapshots"):
            try:
                _increasing(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
        beyond = [epoch for epoch in self.snapshots if epoch > self.epochs]
        if beyond:
            raise ValueError(
                f"snapshots lists epoch {beyond[0]}, but the training ends at epochs: {self.epochs}"
            )
        if self.final_epochs[0] < 1:
            final = self.final_snapshots
            raise ValueError(
                f"final_snapshots is count: {final.count}, every: {final.every}, which begins at "
                f"epoch {self.final_epochs[0]} of epochs: {self.epochs}; expected 1 or later"
            )
        return self

    @property
    def final_epochs(self) -> list[int]:
        """The epochs whose checkpoints are measured over all volumes, the last epoch among them."""
        final = self.final_snapshots
        return [self.epochs - final.every * i for i in reversed(range(final.count))]

    @property
    def snapshot_epochs(self) -> list[int]:
        """The epochs whose weights are kept."""
        return sorted({*self.snapshots, *self.final_epochs})

    @property
    def evaluated_epochs(self) -> list[int]:
        """The epochs with an exact evaluation."""
        return sorted({*range(0, self.epochs + 1, self.evaluate_every), *self.snapshot_epochs})

    @property
    def seed_groups(self) -> list[list[int]]:
        """The seeds that share a job, for each width."""
        size = self.seeds_per_job
        return [self.seeds[i : i + size] for i in range(0, len(self.seeds), size)]


class ResolvedExperiment(Block):
    """One experiment and its data set: what the jobs of the experiment are given, by value."""

    name: Name
    experiment: Experiment
    dataset: Dataset

    @property
    def contents(self) -> dict[str, Any]:
        """All that determines results, whatever the jobs that the runs are packed into."""
        packing = {"experiment": {"seeds_per_job"}}
        return self.model_dump(mode="json", exclude=packing)

    @property
    def identity(self) -> str:
        """A hash of these."""
        return fingerprint(self.contents)

    @property
    def label_settings(self) -> dict[str, Any]:
        """What determines the label table, beside the data set."""
        data = self.experiment.data
        noise = self.experiment.noise
        noise = noise.model_dump(mode="json") if noise else None
        return {
            "train_samples": data.train_samples,
            "validation": data.validation,
            "split_seed": data.split_seed,
            "noise_seed": noise.pop("seed") if noise else 0,
            "noise": noise,
        }

    @property
    def training_identity(self) -> str:
        """A hash of what determines the weights beside epoch, width, seed and the images.

        Images are known by their checksum, not by the settings that they were read with.
        """
        training = self.experiment.model_dump(mode="json", include=set(Training.model_fields))
        # Left out where they are off, so that runs from before there were these keys stay theirs.
        if training["optimizer"]["schedule"] == "constant":
            del training["optimizer"]["schedule"]
        if training["stop_below"] is None:
            del training["stop_below"]
        return fingerprint(
            {
                "labels": self.label_settings,
                "image_size": self.experiment.data.image_size,
                **training,
            }
        )

    def of_run(self, width: int, seed: int) -> dict[str, str]:
        """What all files of a run say of themselves in their metadata."""
        return {
            "experiment": self.name,
            "width": str(width),
            "seed": str(seed),
            "training_identity": self.training_identity,
        }

    @property
    def measuring_identity(self) -> str:
        """A hash of what determines the sharpness tables, beside the weights that are measured."""
        # A normalisation is applied when tables are gathered and needs no new measurement.
        return fingerprint(self.experiment.measure.model_dump(mode="json", exclude={"hessian"}))


def rule_part(name: str) -> str:
    """Return a name as the names of rules have it, which are Python names."""
    return re.sub(r"\W", "_", name)


class Study(Block):
    """The configuration in force: one scale, resolved."""

    scale: Name = Field(description="one of `scales`")
    results: PlainPlace = Field(description="folder of all results")
    device: Literal["auto", "cpu", "cuda"] = Field(
        description="`auto` is the GPU where there is one"
    )
    deterministic: StrictBool = Field(
        False, description="train with kernels of a GPU that repeat every bit; a CPU's always do"
    )
    threads: Natural = Field(le=1024, description="CPU threads of a training or measuring job")
    longest_job_hours: Positive = Field(
        12, le=100_000, description="limit of the time a cluster job asks for"
    )
    memory: Memory | None = Field(
        None,
        description="what a measurement may use for its points, such as 512MiB; null: 1GiB on a "
        "CPU, a quarter of what is free on a GPU",
    )
    autosave_minutes: Positive = Field(description="between two saves of a training")
    datasets: dict[Name, Dataset]
    experiments: dict[Name, Experiment]

    @model_validator(mode="after")
    def _check(self) -> Study:
        if not self.experiments:
            raise ValueError("experiments is empty at this scale, expected at least one")
        rules: dict[str, str] = {}
        for name, experiment in self.experiments.items():
            other = rules.setdefault(rule_part(name), name)
            if other != name:
                raise ValueError(
                    f"experiments.{name}: its rules would be named as those of {other}, with _ for "
                    "other signs; choose another name"
                )
            if RESERVED.fullmatch(name):
                raise ValueError(
                    f"experiments.{name}: the workflow calls something else {name!r}; choose "
                    "another name"
                )
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
        return self.datasets[experiment.data.dataset].image_size()

    def resolved(self, name: str) -> ResolvedExperiment:
        """Return an experiment with its data set."""
        experiment = self.experiments[name]
        dataset = self.datasets[experiment.data.dataset]
        return ResolvedExperiment(name=name, experiment=experiment, dataset=dataset)
