"""Say how far each run of a study has come, how it is doing, and what went wrong.

    smoothdescent status
    smoothdescent status results/small --watch
    smoothdescent status results/small --watch --tensorboard tb

Only files are read, so this works beside a running study, on a login node and after a crash. The
times left come from the runs' own logs, or from the costs that `snakemake plan` has kept.
`tensorboard --logdir tb` then shows the event files.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothdescent.config.load import add_layer, read_yaml, resolve
from smoothdescent.config.schema import Experiment, ResolvedExperiment, Study
from smoothdescent.errors import UserError
from smoothdescent.files import read_table
from smoothdescent.layout import history_path, log_path, run_name
from smoothdescent.lease import Holder
from smoothdescent.plan.events import EventFiles
from smoothdescent.plan.forecast import (
    Calibration,
    aligned,
    done,
    duration,
    job_name,
    run_work,
)
from smoothdescent.progress import logged_times
from smoothdescent.tables.convergence import unsettled_runs

if TYPE_CHECKING:
    import pandas as pd

SILENT_SECONDS = 600  # a lease that has not changed for so long; its holder does every ten seconds
HEADINGS = ("run", "epoch", "training error", "test error", "images/s", "measured", "left", "state")
COLUMNS = ["epoch", "train_loss_all", "train_accuracy_all", "test_error"]

# What a training logs of an evaluation, whose last line also tells its speed, and of its end.
_EVALUATION = re.compile(
    r" epoch (\d+): training loss ([\d.]+), training accuracy ([\d.]+), test error ([\d.]+);"
    r" ([\d,]+) images/s, (\d+|inf) s remaining$"
)
_FAILURE = re.compile(r" failed: (.*)$")
_DIVERGENCE = re.compile(r" has (diverged in epoch \d+): ")
_JOB_FAILURE = re.compile(r"^smoothdescent: error: (.*)$")
_BEGINNING = re.compile(r"\d{4}-\d\d-\d\d [\d:]+ .*process \d+ on host ")
_OTHER_SETTINGS = "was trained with other settings; it is kept as"


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which study (see `read_study`)."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="results/<scale> (default: that of the configuration)",
    )
    parser.add_argument(
        "--configfile",
        nargs="+",
        default=[],
        metavar="FILE",
        help="laid over config.yaml, as Snakemake's option of this name",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_study_arguments(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=10.0,
        metavar="SECONDS",
        help="refresh every SECONDS seconds (default: 10) until all is done or Ctrl-C",
    )
    parser.add_argument(
        "--tensorboard",
        type=Path,
        metavar="FOLDER",
        help="write the evaluations of all runs to event files in FOLDER too",
    )


def run(args: argparse.Namespace) -> None:
    """Print the tables, once or until all is done.

    Raises:
        UserError: the configuration is at fault, or does not know the folder's scale.
    """
    study = read_study(args.folder, args.configfile)
    if args.tensorboard is None:
        _look(study, args.watch)
        return
    with closing(EventFiles(args.tensorboard)) as events:
        _look(study, args.watch, events)


def _look(study: Study, every: float | None, events: EventFiles | None = None) -> None:
    while True:
        states = {name: run_states(study, name) for name in study.experiments}
        text = report(study, states)
        if events is not None:
            events.write(states)
        if every is None:
            print(text)
            return
        # Clears a terminal; elsewhere, as in a log, reports follow each other.
        print(f"\x1b[2J\x1b[H{text}" if sys.stdout.isatty() else f"{text}\n", flush=True)
        if all(state.is_done for found in states.values() for state in found):
            return
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return


def read_study(folder: Path | None, configfiles: Sequence[str]) -> Study:
    """Return the study of a results folder, from `config.yaml` here and files laid over it.

    Raises:
        UserError: see `run`.
    """
    config, source = read_yaml("config.yaml"), "config.yaml"
    for source in configfiles:
        config = add_layer(config, read_yaml(source))
    if folder is not None:
        if folder.name not in (config.get("scales") or {}):
            raise UserError(
                f"{folder}: {source} has no scale {folder.name!r}; expected a folder named as one "
                f"of {', '.join(map(str, config.get('scales') or {}))}"
            )
        config |= {"scale": folder.name, "results": str(folder.parent)}
    return resolve(config, source)


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        name, width, seed: of the run.
        epoch, epochs: epochs trained and asked for.
        evaluations: the exact evaluations so far, columns `COLUMNS`.
        speed: images a second while training; None if it is not known.
        measured, checkpoints: checkpoints measured, and all.
        training_left, measuring_left: seconds; None if nothing has been timed.
        state: in a few words; empty where the numbers say it.
        failure: the sentence with which its last job ended; empty if it did not fail.
    """

    name: str
    width: int
    seed: int
    epoch: int
    epochs: int
    evaluations: pd.DataFrame
    speed: float | None
    measured: int
    checkpoints: int
    training_left: float | None
    measuring_left: float | None
    state: str
    failure: str

    @property
    def is_trained(self) -> bool:
        """Whether all of its epochs are done."""
        return self.epoch == self.epochs

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left."""
        return self.is_trained and self.measured == self.checkpoints

    @property
    def left(self) -> float | None:
        """Seconds of work left; None if they are not known."""
        parts = (self.training_left, self.measuring_left)
        return None if None in parts else sum(parts)


def run_states(study: Study, name: str) -> list[RunState]:
    """Return the state of each run of an experiment."""
    experiment = study.experiments[name]
    folder = Path(study.results) / study.scale / name
    logs = {
        (width, seed): _Log.read(log_path(folder / "runs" / run_name(width, seed)))
        for width in experiment.widths
        for seed in experiment.seeds
    }
    timed = _times(study, name, logs)
    failures = {stage: _job_failures(folder / "logs" / stage, experiment) for stage in STAGES}
    return [
        _run_state(folder / "runs", study.resolved(name), run, log, timed, failures)
        for run, log in logs.items()
    ]


STAGES = ("train", "measure")
Times = dict[str, Callable[[int], float]]  # seconds of an epoch and of measuring a run, by width


def _run_state(
    runs: Path,
    resolved: ResolvedExperiment,
    run: tuple[int, int],
    log: _Log,
    timed: Times,
    failures: dict[str, dict[tuple[int, int], str]],
) -> RunState:
    import pandas as pd

    width, seed = run
    name, experiment = run_name(*run), resolved.experiment
    epoch, measured = done(runs / name, resolved)
    history = _history(history_path(runs / name), resolved, run)
    holder = Holder.read(runs / f"{name}.lease")
    at_work = holder is not None and not _is_silent(runs / f"{name}.lease", holder)
    evaluations = pd.DataFrame(log.evaluations, columns=COLUMNS)
    if history is not None:
        epoch, evaluations = experiment.epochs, history
    elif at_work:
        epoch = max([epoch, *evaluations["epoch"]])
    evaluations = evaluations[evaluations["epoch"] <= epoch]
    state, failure = "", ""
    if at_work:
        state = "training"
    elif epoch < experiment.epochs:
        failure = log.failure or failures["train"].get(run, "")
        state = "failed" if failure else "interrupted" if epoch else "waiting"
        if holder is not None and not failure:
            state = f"left by {holder}"
    elif len(measured) < len(experiment.snapshot_epochs):
        failure = failures["measure"].get(run, "")
        state = "measuring failed" if failure else log.divergence
    else:
        state = log.divergence
    left = {"train": experiment.epochs - epoch, "measure": 1.0}
    left["measure"] -= len(measured) / len(experiment.snapshot_epochs)
    seconds = {
        stage: 0.0 if not part else timed[stage](width) * part if stage in timed else None
        for stage, part in left.items()
    }
    return RunState(
        name=name, width=width, seed=seed, epoch=epoch, epochs=experiment.epochs,
        evaluations=evaluations, speed=log.speed, measured=len(measured),
        checkpoints=len(experiment.snapshot_epochs), training_left=seconds["train"],
        measuring_left=seconds["measure"], state=state, failure=failure,
    )  # fmt: skip


def _is_silent(lease: Path, holder: Holder) -> bool:
    """Return whether a lease was left: by a process of this machine that has ended, or long ago."""
    try:
        return holder.has_ended() or time.time() - lease.stat().st_mtime > SILENT_SECONDS
    except FileNotFoundError:
        return True


def _history(path: Path, resolved: ResolvedExperiment, run: tuple[int, int]) -> pd.DataFrame | None:
    """Return the evaluations of a run that has ended; None if it has not."""
    try:
        history = read_table(path, COLUMNS, resolved.of_run(*run)).to_pandas()
    except (UserError, OSError):
        return None
    return history.dropna() if history["epoch"].max() >= resolved.experiment.epochs else None


@dataclass(frozen=True)
class _Log:
    """What a run has logged: evaluations, speed, how it diverged, how its last attempt failed."""

    evaluations: list[tuple[float, ...]]
    speed: float | None
    failure: str
    divergence: str

    @classmethod
    def read(cls, path: Path) -> _Log:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        found: dict[int, tuple[float, ...]] = {}
        speed, failure, divergence = None, "", ""
        for line in lines:
            if _OTHER_SETTINGS in line:
                found, speed, divergence = {}, None, ""
            elif match := _EVALUATION.search(line):
                epoch = int(match[1])
                found[epoch] = (epoch, *map(float, match.groups()[1:4]))
                speed = float(match[5].replace(",", "")) or speed
            elif match := _DIVERGENCE.search(line):
                divergence = match[1]
            elif match := _FAILURE.search(line):
                failure = match[1]
            elif _BEGINNING.match(line):
                failure = ""
        return cls([found[epoch] for epoch in sorted(found)], speed, failure, divergence)


def _job_failures(folder: Path, experiment: Experiment) -> dict[tuple[int, int], str]:
    """Return the sentences with which the jobs of a stage ended, by run."""
    found = {}
    for width in experiment.widths:
        for seeds in experiment.seed_groups:
            try:
                text = (folder / f"{job_name(width, seeds)}.log").read_text(errors="replace")
            except OSError:
                continue
            for line in text.splitlines()[-3:]:
                if match := _JOB_FAILURE.match(line):
                    found |= {(width, seed): match[1] for seed in seeds}
    return found


def _times(study: Study, name: str, logs: dict[tuple[int, int], _Log]) -> Times:
    """Return what an epoch costs, and measuring a run, in seconds by width.

    Taken from the study's own logs, and where there are none from the costs that
    `snakemake plan` has kept. Between the widths that were timed, and beyond, by a power law.
    """
    experiment, scale = study.experiments[name], Path(study.results) / study.scale
    folder, times = scale / name, {}
    if (scale / "costs.json").exists():
        costs = Calibration.load(scale / "costs.json").experiments.get(name)
        if costs is not None:
            times = {
                "train": lambda w: run_work(costs, experiment, w, 0, []).train / experiment.epochs,
                "measure": lambda w: run_work(costs, experiment, w, 0, []).measure,
            }
    samples = _trained_samples(folder / "labels.parquet")
    epochs = [(width, samples / log.speed) for (width, _), log in logs.items() if log.speed]
    measured = []
    for width in experiment.widths:
        for seeds in experiment.seed_groups:
            took = logged_times(folder / "logs" / "measure" / f"{job_name(width, seeds)}.log")
            if took is not None:
                measured.append((width, took[0] / len(seeds)))
    for stage, points in (("train", epochs if samples else []), ("measure", measured)):
        if points:
            times[stage] = _power_law(points)
    return times


def _trained_samples(labels: Path) -> int:
    """Return the number of training samples; 0 if the labels are not there."""
    try:
        return read_table(labels, ["split"])["split"].to_pylist().count("train")
    except (UserError, OSError):
        return 0


def _power_law(points: list[tuple[int, float]]) -> Callable[[int], float]:
    """Return seconds as a function of width, fitted to some (width, seconds)."""
    widths, seconds = np.log(np.maximum(points, 1e-9)).T
    slope = 0.0 if np.ptp(widths) == 0 else np.polyfit(widths, seconds, 1)[0]
    middle, height = widths.mean(), seconds.mean()
    return lambda width: float(np.exp(height + slope * (np.log(width) - middle)))


def report(study: Study, states: dict[str, list[RunState]]) -> str:
    """Return a table of the runs of each experiment, below a line that counts all of them."""
    every = [state for found in states.values() for state in found]
    parts = [f"{Path(study.results) / study.scale}: {_counts(every)}"]
    for name, found in states.items():
        parts += ["", f"{name}: {_counts(found)}", aligned([HEADINGS, *map(_row, found)])]
        parts += _notes(found)
    return "\n".join(parts)


def _counts(states: list[RunState]) -> str:
    trained = sum(state.is_trained for state in states)
    measured, checkpoints = (
        sum(getattr(state, key) for state in states) for key in ("measured", "checkpoints")
    )
    text = (
        f"{trained} of {len(states)} runs trained, {measured} of {checkpoints} checkpoints measured"
    )
    failed = sum(bool(state.failure) for state in states)
    if failed:
        text += f", {failed} runs failed"
    if all(state.is_done for state in states):
        return text
    left = [state.left for state in states]
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        return f"{text}, time left not known yet"
    return f"{text}, about {duration(sum(known))} left, one job at a time"


def _row(state: RunState) -> tuple[str, ...]:
    last = state.evaluations.iloc[-1] if len(state.evaluations) else None
    return (
        state.name,
        f"{state.epoch}/{state.epochs}",
        "" if last is None else f"{100 * (1 - last['train_accuracy_all']):.1f} %",
        "" if last is None else f"{100 * last['test_error']:.1f} %",
        "" if state.speed is None else f"{state.speed:,.0f}",
        f"{state.measured}/{state.checkpoints}",
        "" if state.is_done else "?" if state.left is None else duration(state.left),
        state.state,
    )


def _notes(states: list[RunState]) -> list[str]:
    """Return what went wrong: failed jobs, and runs that do not converge."""
    notes: dict[str, list[str]] = {}
    for state in states:
        if state.failure:
            notes.setdefault(state.failure, []).append(state.name)
    lines = [f"  {', '.join(names)}: {text}" for text, names in notes.items()]
    import pandas as pd

    evaluations = [
        state.evaluations.assign(width=state.width, seed=state.seed)
        for state in states
        if len(state.evaluations)
    ]
    if evaluations:
        unsettled = unsettled_runs(pd.concat(evaluations))
        lines += [f"  {run_name(*run)} {fault}" for run, fault in unsettled.items()]
    return lines
