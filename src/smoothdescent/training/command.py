"""Train runs of an experiment until the end of a segment, one after the other or side by side.

Everything is kept in the runs' folders, from which a run goes on where it is: what has been
trained already costs nothing. Work in progress is saved every few minutes and on SIGTERM, SIGINT
(which also stop the program) and SIGUSR1; the same command then continues where it stopped,
bit-identically. A run that fails does not keep the others from being trained.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from smoothdescent.config.load import read_experiment
from smoothdescent.config.schema import Study
from smoothdescent.data.loading import ExperimentData, load_experiment_data
from smoothdescent.devices import choose_device, describe, precision_in_force, prepare_training
from smoothdescent.errors import UserError
from smoothdescent.files import (
    canonical_json,
    code_digest,
    fingerprint,
    read_metadata,
    read_table,
    sha256_bytes,
    write_table,
    write_text,
)
from smoothdescent.lease import Deposed, Lease
from smoothdescent.networks.registry import count_parameters, network_sources
from smoothdescent.progress import Progress, log, logging_to
from smoothdescent.provenance import library_versions, provenance
from smoothdescent.runs import log_path, parse_run, run_name
from smoothdescent.training.data import to_device
from smoothdescent.training.engine import train
from smoothdescent.training.folder import Listener, RunFolder, Stopped, StopRequest
from smoothdescent.training.run import Run, new_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--config", required=True, help="the experiment's resolved configuration")
    parser.add_argument("--data", required=True, help="the decoded data set")
    parser.add_argument("--labels", required=True, help="the label table")
    parser.add_argument(
        "--runs", required=True, nargs="+", type=parse_run, help="runs, such as w4_s0 w4_s1"
    )
    parser.add_argument("--until", required=True, type=int, help="epoch at which the segment ends")
    parser.add_argument("--folder", required=True, type=Path, help="folder of the runs' folders")
    parser.add_argument("--receipt", required=True, type=Path, help="file that says it is done")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Train the runs; exit with 128 + signal number if a signal stopped it.

    Raises:
        UserError: the input is at fault, or some of the runs failed.
    """
    study, name, experiment = read_experiment(args.config)
    if args.until not in experiment.boundaries:
        raise UserError(
            f"--until is {args.until}, expected the end of a segment of {args.config}: "
            f"{', '.join(map(str, experiment.boundaries))}"
        )
    device = choose_device(study.device)
    prepare_training(device, args.threads)
    trainer = _Trainer(args, study, name, device)
    request = StopRequest()
    # Runs side by side keep a GPU busy that one narrow network leaves idle.
    with ThreadPoolExecutor(study.runs_at_once) as pool:
        each = pool.map if study.runs_at_once > 1 else map
        try:
            outcomes = each(lambda run: trainer.train(*run, request.listener()), args.runs)
            faults = [fault for fault in outcomes if fault]
        except Stopped as stop:
            sys.exit(128 + stop.number)
    if faults:
        raise UserError("; ".join(faults))
    names = [run_name(width, seed) for width, seed in args.runs]
    write_text(args.receipt, canonical_json({"runs": names, "epoch": args.until}) + "\n")


class _Trainer:
    """Trains runs of one experiment, whose data are in memory once.

    Args:
        args: the command's.
        study, name: the configuration, and the experiment in it.
        device: where to train.
    """

    def __init__(self, args: argparse.Namespace, study: Study, name: str, device: torch.device):
        self.args, self.study, self.name, self.device = args, study, name, device
        self.experiment = study.experiments[name]
        size = self.experiment.data.image_size
        self.dataset = load_experiment_data(args.data, args.labels, size)
        self.data = to_device(self.dataset, self.experiment.augmentation, device)
        self.facts = {
            "labels_sha256": _labels_sha256(self.dataset),
            "data_sha256": read_metadata(args.labels)["data_sha256"],
        }
        self.made_with = {
            "device": describe(device),
            "precision": precision_in_force(self.experiment.precision, device),
            "threads": str(args.threads),
        }
        # Bit-identity holds for one kind of device, one number of threads, the same arithmetic.
        versions = {name: library_versions().get(name) for name in ("torch", "numba")}
        code = _code(self.experiment.network)
        self.conditions = fingerprint([device.type, args.threads, code, versions])

    def train(self, width: int, seed: int, listener: Listener) -> str | None:
        """Train a run to the end of the segment, and return what went wrong, if anything did.

        Raises:
            Stopped: a signal came.
            Deposed: another process has taken the run over.
        """
        path = self.args.folder / run_name(width, seed)
        with logging_to(log_path(path)):
            training = new_run(
                self.experiment,
                width=width,
                seed=seed,
                num_classes=self.dataset.num_classes,
                image_size=self.dataset.image_size,
                device=self.device,
            )
            metadata = _metadata(self.study, self.name, self.dataset, training, width, seed)
            try:
                listener.obey()
                with Lease(path, while_waiting=listener.obey) as lease:
                    folder = RunFolder(path, metadata | self.facts, self.conditions, lease)
                    self._train(training, folder, listener)
            except Stopped as stop:
                log(
                    f"stopped by {stop} in epoch {training.epoch + 1} of {path.name}; saved, the "
                    "same command continues from there"
                )
                raise
            except Deposed:
                raise  # whoever has taken this run over trains the next ones too
            except UserError as error:
                log(f"{path.name} failed: {error}")
                return f"{path.name}: {error}"
            return None

    def _train(self, training: Run, folder: RunFolder, listener: Listener) -> None:
        """Take a run from where its folder has it to the end of the segment."""
        experiment, until = self.experiment, self.args.until
        name, samples = folder.path.name, len(self.data.labels)
        snapshots = experiment.snapshot_epochs(until)
        folder.claim()
        folder.restore(training, snapshots)
        if training.epoch >= until:
            log(f"{name} has been trained to epoch {training.epoch} already")
            if _rows(folder.history) < len(training.history):
                _write_history(folder, training, self.made_with)
            return
        progress = Progress(
            (until - training.epoch) * samples - training.step * experiment.batch_size,
            "images",
            f"{name}, epochs {training.epoch + 1} to {until}",
        )

        def on_step(count: int) -> None:
            progress.advance(count)
            folder.save_if_due(training, listener, self.study.autosave_minutes)

        def on_epoch() -> None:
            if training.epoch in snapshots:
                folder.save_snapshot(training)
            row = training.history[-1]
            if "test_error" in row:
                log(
                    f"{name} epoch {training.epoch}: training loss {row['train_loss_all']:.4f}, "
                    f"training accuracy {row['train_accuracy_all']:.4f}, "
                    f"test error {row['test_error']:.4f}; {progress.rate()}"
                )

        train(
            training,
            self.data,
            experiment,
            seed=int(folder.metadata["seed"]),
            until=until,
            evaluate_at={*experiment.snapshots, experiment.epochs},
            on_step=on_step,
            on_epoch=on_epoch,
        )
        progress.close()
        _write_history(folder, training, self.made_with)
        folder.save_state(training)


def _metadata(
    study: Study, name: str, dataset: ExperimentData, training: Run, width: int, seed: int
) -> dict[str, str]:
    """Return what a snapshot says about itself: deterministic, as its weights are."""
    return {
        "experiment": name,
        "network": study.experiments[name].network,
        "width": str(width),
        "seed": str(seed),
        "num_classes": str(dataset.num_classes),
        "image_size": str(dataset.image_size),
        "parameters": str(count_parameters(training.network)),
        "training_identity": study.training_identity(name),
    }


def _labels_sha256(dataset: ExperimentData) -> str:
    columns = (dataset.train.sample_ids, dataset.train.labels)
    return sha256_bytes(*(column.numpy().tobytes() for column in columns))


def _code(network: str) -> str:
    """Return a hash of the code that determines the weights, a user's network included."""
    package = Path(__file__).parents[1]
    training = ("augmentation", "data", "engine", "evaluation", "optimizers", "run", "step")
    return code_digest(
        package / "randomness.py",
        package / "data" / "loading.py",
        *package.glob("networks/*.py"),
        *package.glob("kernels/*.py"),
        *(package / "training" / f"{module}.py" for module in training),
        *network_sources(network),
    )


def _rows(table: Path) -> int:
    return read_table(table).num_rows if table.exists() else 0


def _write_history(folder: RunFolder, training: Run, made_with: dict[str, str]) -> None:
    table = training.history_table()
    metadata = folder.metadata
    for column in ("seed", "width"):
        table.insert(0, column, int(metadata[column]))
    table.insert(0, "experiment", metadata["experiment"])
    table["parameters"] = int(metadata["parameters"])
    write_table(folder.history, table, {**metadata, **provenance(**made_with)})
