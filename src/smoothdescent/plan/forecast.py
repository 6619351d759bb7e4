"""The cost of what is still to be done, from calibrated costs. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from smoothdescent.config.schema import Experiment, ResolvedExperiment, Study
from smoothdescent.errors import UserError
from smoothdescent.files import peek_metadata, read_metadata, table_metadata, write_json
from smoothdescent.layout import run_name, sharpness_path, snapshot_path, state_path
from smoothdescent.progress import logged_times

ROW_BYTES = 40  # of a per-checkpoint table, compressed
SAMPLE_BYTES = 21  # of a row of the experiment's table of samples
FLOAT_BYTES = 4
COPIES = 3


@dataclass(frozen=True)
class Costs:
    """What an experiment costs on one device, at some widths.

    Attributes:
        widths: the calibrated ones, increasing.
        parameters: of their networks.
        train, evaluate: seconds per image of a training step and of an evaluation.
        point, volumes: seconds per image of measuring at the point, and over all volumes.
        train_samples, test_samples: images of the experiment.
        image_size: of the images, in pixels.
        device_memory, host_memory: most bytes held during the calibration, which has images for a
            few batches.
    """

    widths: list[int]
    parameters: list[int]
    train: list[float]
    evaluate: list[float]
    point: list[float]
    volumes: list[float]
    train_samples: int
    test_samples: int
    image_size: int
    device_memory: int
    host_memory: int

    @property
    def images(self) -> int:
        """Bytes of all images of the experiment as float32."""
        count = self.train_samples + self.test_samples
        return FLOAT_BYTES * 3 * self.image_size**2 * count

    def at(self, column: str, width: int) -> float:
        """Return a column's value at any width, between the calibrated ones by power laws."""
        logs = np.log(getattr(self, column))
        return float(np.exp(np.interp(np.log(width), np.log(self.widths), logs)))


@dataclass(frozen=True)
class Calibration:
    """The costs of a study's experiments on one machine.

    Attributes:
        device: its name.
        startup: seconds that a job costs before it works.
        experiments: costs by name.
    """

    device: str
    startup: float
    experiments: dict[str, Costs]

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            content = read_metadata(path)
            content["experiments"] = {
                name: Costs(**costs) for name, costs in content["experiments"].items()
            }
            return cls(**content)
        except (UserError, OSError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} does not hold the costs of a study ({error}); run `snakemake plan` again"
            ) from None


@dataclass(frozen=True)
class Work:
    """Seconds of computing, and bytes on disk."""

    train: float = 0.0
    measure: float = 0.0
    disk: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.train + other.train, self.measure + other.measure, self.disk + other.disk)

    @property
    def seconds(self) -> float:
        """All computing."""
        return self.train + self.measure


def run_work(
    costs: Costs, experiment: Experiment, width: int, start: int, measured: Iterable[int]
) -> Work:
    """Return what one run still costs.

    Args:
        costs: the experiment's.
        experiment: its settings.
        width: the run's.
        start: epochs done.
        measured: snapshot epochs that are measured already.
    """
    end = experiment.epochs
    samples = costs.train_samples
    evaluations = sum(start < epoch for epoch in experiment.evaluated_epochs)
    train = training_seconds(costs, width, end - start)
    train += evaluations * (samples + costs.test_samples) * costs.at("evaluate", width)
    wanted = {*experiment.snapshot_epochs} - {*measured}
    final = wanted & {*experiment.final_epochs}
    images = experiment.measure.samples or samples
    measure = images * len(wanted - final) * costs.at("point", width)
    measure += images * len(final) * costs.at("volumes", width)
    return Work(train, measure, _disk(costs, experiment, width))


def _disk(costs: Costs, experiment: Experiment, width: int) -> float:
    """Return the bytes of a run: snapshots, the state and its next version, tables, samples."""
    weights = FLOAT_BYTES * costs.at("parameters", width)
    snapshots = len(experiment.snapshot_epochs)
    state = weights * (1 + experiment.optimizer.buffers)
    larger_volumes = len(experiment.measure.paths.strengths)
    rows = snapshots + len(experiment.final_epochs) * larger_volumes
    image = ROW_BYTES * rows + SAMPLE_BYTES * (1 + larger_volumes)
    images = experiment.measure.samples or costs.train_samples
    return weights * snapshots + 2 * state + image * images


def done(run: Path, resolved: ResolvedExperiment) -> tuple[int, list[int]]:
    """Return the epochs that a run has been trained for, and its measured snapshot epochs.

    What was made with other settings does not count.
    """
    experiment = resolved.experiment
    try:
        owner = json.loads((run / "run.json").read_text()).get("training_identity")
    except (OSError, ValueError):
        owner = None
    if owner != resolved.training_identity:
        return 0, []
    tables = {epoch: sharpness_path(run, epoch) for epoch in experiment.snapshot_epochs}
    measured = [epoch for epoch, table in tables.items() if table.exists()]
    # All of a run are alike: measuring begins by setting those of other settings aside.
    if measured and _measured_with(tables[measured[0]]) != resolved.measuring_identity:
        measured = []
    try:
        epochs = json.loads(peek_metadata(state_path(run))["position"])["epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        epochs = 0  # there is no state, or none that can be used
    return min(epochs, experiment.epochs), measured


def _measured_with(table: Path) -> str | None:
    """Return with which settings a checkpoint was measured, unproven; None if it does not say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return table_metadata(pq.read_schema(table)).get("measuring_identity")
    except (OSError, pa.ArrowException):
        return None


def trained_again(run: Path, resolved: ResolvedExperiment) -> int:
    """Return to which epoch a trained run must train again from the beginning; 0: it need not.

    That is the last epoch that it has passed without a snapshot that is wanted now.
    """
    wanted = resolved.experiment.snapshot_epochs
    missing = [epoch for epoch in wanted if not snapshot_path(run, epoch).exists()]
    epochs = done(run, resolved)[0] if missing else 0
    return max((epoch for epoch in missing if epoch <= epochs), default=0)


def training_seconds(costs: Costs, width: int, epochs: int) -> float:
    """Return what some epochs of training cost, evaluations left out."""
    return epochs * costs.train_samples * costs.at("train", width)


def still_to_do(calibration: Calibration, study: Study, name: str) -> dict[int, Work]:
    """Return, by width, what is still to be done for all seeds of an experiment."""
    resolved, costs = study.resolved(name), calibration.experiments[name]
    experiment = resolved.experiment
    runs = Path(study.results) / study.scale / name / "runs"
    by_width = {}
    for width in experiment.widths:
        total = Work()
        for seed in experiment.seeds:
            run = runs / run_name(width, seed)
            epochs, measured = done(run, resolved)
            total += run_work(costs, experiment, width, epochs, measured)
            again = trained_again(run, resolved)
            total += Work(train=training_seconds(costs, width, again))
        by_width[width] = total
    return by_width


def job_name(width: int | str | None, seeds: list[int] | list[str]) -> str:
    """Return the name of the job of some seeds of a width, such as w4_s0 or w4_s0-2.

    Args:
        width: a width or a wildcard; None: of the seeds alone.
        seeds: those of the job, in order, or a wildcard.
    """
    ends = "-".join(dict.fromkeys((str(seeds[0]), str(seeds[-1]))))
    return f"s{ends}" if width is None else run_name(width, ends)


def job_seconds(
    calibration: Calibration, experiment: Experiment, name: str, width: int, seeds: int, stage: str
) -> float:
    """Return what a job costs from its beginning, its start included.

    Args:
        calibration: the costs.
        experiment: the settings in force.
        name: the experiment's.
        width: of the job's runs.
        seeds: how many runs it has.
        stage: `train` or `measure`.
    """
    work = run_work(calibration.experiments[name], experiment, width, 0, [])
    return calibration.startup + seeds * getattr(work, stage)


def job_memory(costs: Costs) -> int:
    """Return the bytes of main memory that a job of an experiment needs, whatever its width.

    While images are prepared there are up to `COPIES` of them.
    """
    return costs.host_memory + COPIES * costs.images


def jobs_left(study: Study, name: str) -> int:
    """Return how many training and measuring jobs of an experiment have something to do."""
    resolved = study.resolved(name)
    experiment = resolved.experiment
    folder = Path(study.results) / study.scale / name / "runs"
    left = 0
    for width in experiment.widths:
        for seeds in experiment.seed_groups:
            runs = [folder / run_name(width, seed) for seed in seeds]
            states = [done(run, resolved) for run in runs]
            again = [trained_again(run, resolved) for run in runs]
            left += any(again) or any(epochs < experiment.epochs for epochs, _ in states)
            left += any(measured != experiment.snapshot_epochs for _, measured in states)
    return left


def finished(
    calibration: Calibration, study: Study, name: str, stage: str
) -> tuple[int, float, float]:
    """Return how many jobs have ended, the seconds expected of them, and the seconds they took.

    These are seconds of processor time where one thread computes, as in the calibration. Of a job
    that was interrupted the last attempt alone is known; one that found all done is not counted.
    """
    alone = calibration.device == "cpu" and study.threads == 1
    experiment = study.experiments[name]
    folder = Path(study.results) / study.scale / name / "logs" / stage
    count, expected, taken = 0, 0.0, 0.0
    for width in experiment.widths:
        for seeds in experiment.seed_groups:
            times = logged_times(folder / f"{job_name(width, seeds)}.log")
            if times is None:
                continue
            taken += times[1] if alone else times[0]
            expected += job_seconds(calibration, experiment, name, width, len(seeds), stage)
            count += 1
    return count, expected, taken


def report(calibration: Calibration, study: Study) -> str:
    """Return what is still to be done, and what ended jobs were expected to take and took."""
    done_so_far = _finished_table(calibration, study)
    return "\n".join([_plan_table(calibration, study), *([done_so_far] if done_so_far else [])])


def _finished_table(calibration: Calibration, study: Study) -> str:
    rows = [("experiment", "jobs", "expected", "took", "took / expected")]
    for name in study.experiments:
        for stage in ("train", "measure"):
            count, expected, taken = finished(calibration, study, name, stage)
            if count:
                times = (duration(expected), duration(taken), f"{taken / expected:.2f}")
                rows.append((f"{name}, {stage}", str(count), *times))
    if len(rows) == 1:
        return ""
    clock = "; processor time where one thread computes"
    return f"\nJobs that have ended, their starts included{clock}:\n\n{aligned(rows)}"


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Return a table as lines of text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _plan_table(calibration: Calibration, study: Study) -> str:
    rows = [("experiment", "jobs", "train", "measure", "start", "disk", "memory", "widths of half")]
    total = Work()
    start = 0.0
    for name in study.experiments:
        by_width = still_to_do(calibration, study, name)
        work = sum(by_width.values(), Work())
        costs = calibration.experiments[name]
        count = jobs_left(study, name)
        starting = count * calibration.startup
        rows.append(
            (
                name,
                str(count),
                duration(work.train),
                duration(work.measure),
                duration(starting),
                size(work.disk),
                size(costs.device_memory + costs.images),
                _dominant(by_width),
            )
        )
        total, start = total + work, start + starting
    times = map(duration, (total.train, total.measure, start))
    rows.append(("all", "", *times, size(total.disk), "", ""))
    hours = (total.seconds + start) / 3600
    return "\n".join(
        [
            f"Still to be done at the scale {study.scale}, on {calibration.device}, one job at a "
            "time:",
            "",
            aligned(rows),
            "",
            f"{hours:.1f} device-hours.",
        ]
    )


def _dominant(by_width: dict[int, Work]) -> str:
    """Name the fewest widths that make half of the work."""
    total = sum(work.seconds for work in by_width.values())
    if total == 0:
        return "nothing to do"
    chosen, found = [], 0.0
    for width in sorted(by_width, key=lambda w: by_width[w].seconds, reverse=True):
        chosen.append(width)
        found += by_width[width].seconds
        if found >= total / 2:
            break
    return ", ".join(map(str, sorted(chosen)))


def duration(seconds: float) -> str:
    """Return a time in words, such as '3.2 h'."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Return a number of bytes in words, such as '1.4 GiB'."""
    for unit, length in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"
