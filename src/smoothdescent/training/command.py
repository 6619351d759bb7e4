"""Train one segment of one run.

Takes the training state of the segment before (none for the first), trains until the end of the
segment, and writes the next state, the snapshots and the history so far. Work in progress is saved
in the autosave folder every few minutes and on SIGTERM, SIGINT (which also stop the program) and
SIGUSR1; the same command then continues where it stopped, bit-identically.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from smoothdescent.config.load import read_experiment
from smoothdescent.config.schema import Experiment, Study
from smoothdescent.data.loading import ExperimentData, load_experiment_data
from smoothdescent.devices import choose_device, set_threads, use_full_float32
from smoothdescent.errors import UserError
from smoothdescent.files import code_digest, fingerprint, read_metadata, sha256_bytes, write_table
from smoothdescent.networks.registry import count_parameters, network_source
from smoothdescent.progress import Progress, log
from smoothdescent.provenance import provenance
from smoothdescent.training.autosave import Autosave, Stopped
from smoothdescent.training.engine import TrainingData, train
from smoothdescent.training.run import Run, new_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    paths = parser.add_argument_group("files")
    paths.add_argument("--config", required=True, help="the experiment's resolved configuration")
    paths.add_argument("--data", required=True, help="the decoded data set")
    paths.add_argument("--labels", required=True, help="the label table")
    paths.add_argument("--state", help="training state to start from; default: initialise")
    paths.add_argument("--autosave", required=True, type=Path, help="folder for work in progress")
    paths.add_argument("--output-state", required=True, type=Path, help="next training state")
    paths.add_argument("--output-snapshots", required=True, type=Path, help="folder of snapshots")
    paths.add_argument("--output-history", required=True, type=Path, help="history so far")
    parser.add_argument("--width", required=True, type=int, help="base width of the network")
    parser.add_argument("--seed", required=True, type=int, help="training seed")
    parser.add_argument("--until", required=True, type=int, help="epoch at which the segment ends")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Train the segment; exit with 128 + signal number if a signal stopped it."""
    study, name, experiment = read_experiment(args.config)
    if args.until not in experiment.boundaries:
        raise UserError(
            f"--until is {args.until}, expected the end of a segment of {args.config}: "
            f"{', '.join(map(str, experiment.boundaries))}"
        )
    device = choose_device(study.device)
    set_threads(args.threads)
    use_full_float32()
    dataset = load_experiment_data(args.data, args.labels, experiment.data.image_size)
    training = new_run(
        experiment,
        width=args.width,
        seed=args.seed,
        num_classes=dataset.num_classes,
        image_size=dataset.image_size,
        device=device,
    )
    metadata = _metadata(args, study, name, experiment, dataset, training)
    if args.state:
        _continue_from(args.state, training, metadata, experiment.segment_start(args.until))
    autosave = Autosave(
        args.autosave / f"e{args.until}",
        # Bit-identity holds for one kind of device and one number of threads.
        fingerprint=fingerprint(
            [metadata, args.until, device.type, args.threads, _code(experiment.network)]
        ),
        run=training,
        metadata=metadata,
        minutes=study.autosave_minutes,
    )
    snapshots = experiment.segment_snapshots(args.until)
    autosave.restore(snapshots)
    _remove_earlier(args.autosave, args.until)
    autosave.listen()
    try:
        _train(training, _to_device(dataset, device), experiment, args, autosave, snapshots)
    except Stopped as signal:
        log(
            f"stopped by {signal} in epoch {training.epoch + 1}; saved in {autosave.folder}, the "
            "same command continues from there"
        )
        sys.exit(128 + signal.number)
    autosave.save()
    _publish(args, training, autosave, metadata, snapshots, device)


def _metadata(
    args: argparse.Namespace,
    study: Study,
    name: str,
    experiment: Experiment,
    dataset: ExperimentData,
    training: Run,
) -> dict[str, str]:
    """Return what a snapshot says about itself: deterministic, as its weights are."""
    return {
        "experiment": name,
        "network": experiment.network,
        "width": str(args.width),
        "seed": str(args.seed),
        "num_classes": str(dataset.num_classes),
        "image_size": str(dataset.image_size),
        "parameters": str(count_parameters(training.network)),
        "training_identity": study.training_identity(name),
        "labels_sha256": _labels_sha256(dataset),
        "data_sha256": read_metadata(args.labels)["data_sha256"],
    }


def _labels_sha256(dataset: ExperimentData) -> str:
    columns = (dataset.train.sample_ids, dataset.train.labels)
    return sha256_bytes(*(column.numpy().tobytes() for column in columns))


def _continue_from(path: str, training: Run, metadata: dict[str, str], start: int) -> None:
    """Load the state of the segment before, after checking that it is this run's."""
    found = training.load(path)
    for key, expected in metadata.items():
        if found.get(key) != expected:
            raise UserError(
                f"{path} belongs to another run: its {key} is {found.get(key)!r}, expected "
                f"{expected!r}"
            )
    if (training.epoch, training.step) != (start, 0):
        raise UserError(
            f"{path} is the state after epoch {training.epoch}, but the segment starts after "
            f"epoch {start}"
        )


def _code(network: str) -> str:
    """Return a hash of the code that determines the weights, a user's network included."""
    package = Path(__file__).parents[1]
    training = ("engine.py", "evaluation.py", "optimizers.py", "run.py")
    return code_digest(
        package / "randomness.py",
        package / "data" / "loading.py",
        *(package / "training" / file for file in training),
        network_source(network),
    )


def _remove_earlier(autosave: Path, until: int) -> None:
    """Remove the work in progress of earlier segments: their outputs are this segment's input."""
    for folder in autosave.glob("e[0-9]*"):
        if int(folder.name[1:]) < until:
            shutil.rmtree(folder)


def _to_device(dataset: ExperimentData, device: torch.device) -> TrainingData:
    corrupted = None
    if len(dataset.corrupted_classes):
        corrupted = torch.zeros(dataset.num_classes, dtype=torch.bool, device=device)
        corrupted[dataset.corrupted_classes.to(device)] = True
    return TrainingData(
        images=dataset.train.images.permute(0, 2, 3, 1).contiguous().to(device),
        labels=dataset.train.labels.to(device),
        is_noisy=dataset.train.is_noisy.to(device),
        test_images=dataset.test_images.permute(0, 2, 3, 1).contiguous().to(device),
        test_labels=dataset.test_labels.to(device),
        corrupted_classes=corrupted,
    )


def _train(
    training: Run,
    data: TrainingData,
    experiment: Experiment,
    args: argparse.Namespace,
    autosave: Autosave,
    snapshots: list[int],
) -> None:
    """Train to the end of the segment, with progress, autosaves and snapshots."""
    samples = len(data.labels)
    progress = Progress(
        (args.until - training.epoch) * samples - training.step * experiment.batch_size,
        "images",
        f"width {args.width}, seed {args.seed}, epochs {training.epoch + 1} to {args.until}",
    )

    def on_step(count: int) -> None:
        progress.advance(count)
        autosave.save_if_due()

    def on_epoch() -> None:
        if training.epoch in snapshots:
            autosave.save_snapshot()
        row = training.history[-1]
        if "test_error" in row:
            log(
                f"epoch {training.epoch}: training loss {row['train_loss_all']:.4f}, training "
                f"accuracy {row['train_accuracy_all']:.4f}, test error {row['test_error']:.4f}; "
                f"{progress.rate()}"
            )

    train(
        training,
        data,
        experiment,
        seed=args.seed,
        until=args.until,
        evaluate_at={*experiment.snapshots, *experiment.boundaries},
        on_step=on_step,
        on_epoch=on_epoch,
    )
    progress.close()


def _publish(
    args: argparse.Namespace,
    training: Run,
    autosave: Autosave,
    metadata: dict[str, str],
    snapshots: list[int],
    device: torch.device,
) -> None:
    table = training.history_table()
    for column, value in (("width", args.width), ("seed", args.seed)):
        table.insert(0, column, value)
    table.insert(0, "experiment", metadata["experiment"])
    table["parameters"] = int(metadata["parameters"])
    facts = provenance(device=str(device), precision="float32", threads=str(args.threads))
    write_table(args.output_history, table, {**metadata, **facts})
    autosave.publish(state=args.output_state, snapshots=args.output_snapshots, epochs=snapshots)
