"""Measure the snapshots of runs, one table each.

    smoothdescent measure-runs --runs w4_s0 w4_s1 \\
        --folder results/demo/convnet-cifar10-noise20/runs \\
        --data results/demo/data/procedural10.safetensors \\
        --labels results/demo/convnet-cifar10-noise20/labels.parquet \\
        --settings "$(smoothdescent config --experiment convnet-cifar10-noise20 --json)"

Every snapshot is measured at the training points (volume 0), the final ones over all volumes.
The weights of a run that stopped training serve several epochs, and are measured once. Finished
tables are not measured again; those of other settings, labels, weights or code are set aside before
anything is measured, so that a table that is there is right.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from smoothdescent.config.load import parse_settings
from smoothdescent.config.schema import Experiment, ResolvedExperiment
from smoothdescent.data.loading import labels_sha256, load_pixels, read_label_table
from smoothdescent.data.store import Store, open_store
from smoothdescent.devices import choose_device, describe, set_threads
from smoothdescent.errors import UserError
from smoothdescent.files import (
    expect,
    fingerprint,
    made_again,
    read_metadata,
    remove_unfinished,
    set_aside,
    write_table,
)
from smoothdescent.layout import (
    add_job_arguments,
    history_path,
    log_path,
    run_name,
    sharpness_path,
    snapshot_path,
)
from smoothdescent.lease import Lease
from smoothdescent.networks.registry import build, network_sources
from smoothdescent.networks.weights import load_weights, read_weights_metadata
from smoothdescent.progress import Progress, log, log_times, logging_to
from smoothdescent.provenance import provenance
from smoothdescent.randomness import numpy_generator
from smoothdescent.sharpness import Paths, Tangent, measure
from smoothdescent.sharpness.measures import measure_sources
from smoothdescent.source_code import code_digest
from smoothdescent.training.folder import check_snapshot, network_code, snapshots_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_job_arguments(parser)
    parser.add_argument(
        "--memory", help="what the points may use, such as 512MiB; default: the engine's"
    )


@dataclass(frozen=True)
class MeasuredSamples:
    """The measured training samples: pixels float32 [N, 3, S, S] in [0,1], and their labels."""

    store: Store
    pixels: torch.Tensor
    labels: torch.Tensor
    sample_ids: torch.Tensor
    is_noisy: torch.Tensor
    labels_sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A snapshot, and the table of what is measured of it.

    Attributes:
        snapshot, table: the files.
        expected: what the snapshot says of itself.
        identity: what the table says of itself: how and of which weights it was measured.
        trained_epochs: of the weights; the same for all epochs after a run has stopped training.
        diverged: the epoch in which the run has diverged before this one; None if it has not.
    """

    snapshot: Path
    table: Path
    expected: dict[str, str]
    identity: dict[str, str]
    trained_epochs: str
    diverged: str | None

    @property
    def measurement(self) -> tuple[str, str, str]:
        """What is measured: checkpoints of a job that have this in common get the same numbers."""
        return str(self.table.parent), self.trained_epochs, self.identity["volumes"]


def run(args: argparse.Namespace) -> None:
    """Measure each snapshot that has no finished table yet.

    Raises:
        UserError: a file is missing, damaged or of another experiment.
    """
    resolved = parse_settings(ResolvedExperiment, args.settings, "--settings")
    set_threads(args.threads)
    device = choose_device(args.device)
    samples = read_measured_samples(open_store(args.data), args.labels, resolved)
    # Hashed once for all runs: it reads the source of the package.
    measured_with = fingerprint(
        [
            resolved.measuring_identity,
            samples.store.sha256,
            samples.labels_sha256,
            measuring_code(resolved.experiment),
        ]
    )
    found = [
        checkpoint
        for run in args.runs
        for checkpoint in checkpoints(args.folder, run, resolved, samples, measured_with)
    ]
    unfinished = [checkpoint for checkpoint in found if not is_finished(checkpoint)]
    result, done, measured = None, None, 0
    for folder, its in itertools.groupby(unfinished, lambda checkpoint: checkpoint.table.parent):
        with logging_to(log_path(folder.parent)), Lease(folder) as lease:
            remove_unfinished(folder)
            for checkpoint in its:
                if is_finished(checkpoint):  # by another job, which had the lease before
                    continue
                if checkpoint.measurement != done:
                    result = measure_snapshot(checkpoint, samples, resolved, device, args.memory)
                    done = checkpoint.measurement
                lease.check()
                write_checkpoint(checkpoint, result, samples, resolved, device)
                measured += 1
    log(f"{len(found)} checkpoints, {measured} of them measured now")
    if measured:
        log_times()


def checkpoints(
    runs: Path,
    run: tuple[int, int],
    resolved: ResolvedExperiment,
    samples: MeasuredSamples,
    measured_with: str,
) -> list[Checkpoint]:
    """Return the checkpoints of a run, given by width and seed.

    Raises:
        UserError: a snapshot is missing, damaged or of another run; it is set aside.
    """
    folder = runs / run_name(*run)
    experiment = resolved.experiment
    of_run = {
        **resolved.of_run(*run),
        "labels_sha256": samples.labels_sha256,
        "data_sha256": samples.store.sha256,
        **network_code(experiment.network),
    }
    named = snapshots_named(history_path(folder), of_run)
    found = []
    for epoch in experiment.snapshot_epochs:
        snapshot = snapshot_path(folder, epoch)
        expected = {**of_run, "epoch": str(epoch)}
        with made_again(snapshot, "the same command trains it again"):
            said, checksum = check_snapshot(snapshot, expected, named)
        identity = {
            "measuring_identity": resolved.measuring_identity,
            "measured_with": measured_with,
            "snapshot_sha256": checksum,
            "volumes": "all" if epoch in experiment.final_epochs else "0",
        }
        table = sharpness_path(folder, epoch)
        trained, diverged = said["trained_epochs"], said.get("diverged")
        found.append(Checkpoint(snapshot, table, expected, identity, trained, diverged))
    return found


def is_finished(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint has its table; one that is damaged or another's is set aside."""
    table = checkpoint.table
    if not table.exists():
        return False
    try:
        found = read_metadata(table)
        if found.get("volumes") == "all":
            # Such a table also serves where the points alone are asked for.
            found["volumes"] = checkpoint.identity["volumes"]
        expect(table, found, {**checkpoint.expected, **checkpoint.identity})
    except UserError as error:
        log(f"{error}; it is measured again, and kept as {set_aside(table).name}")
        return False
    return True


def read_measured_samples(
    store: Store, labels: str | Path, resolved: ResolvedExperiment
) -> MeasuredSamples:
    """Return the training samples that are measured: all, or a random choice of some.

    The choice depends on the measure's seed alone, so that all runs are measured at the same
    points.

    Raises:
        UserError: more samples are asked for than there are.
    """
    experiment = resolved.experiment
    table, _ = read_label_table(labels, store, resolved.label_settings)
    rows = (table["split"] == "train").nonzero()[0]
    trained_on = [torch.as_tensor(table[column][rows]) for column in ("sample_id", "label")]
    wanted = experiment.measure.samples
    if wanted is not None:
        if wanted > len(rows):
            raise UserError(
                f"measure.samples is {wanted}, but {labels} has only {len(rows)} training samples"
            )
        draw = numpy_generator(experiment.measure.seed, "measured-samples")
        rows = rows[sorted(draw.permutation(len(rows))[:wanted])]
    sample_ids = torch.as_tensor(table["sample_id"][rows])
    return MeasuredSamples(
        store=store,
        pixels=load_pixels(store, sample_ids, experiment.data.image_size),
        labels=torch.as_tensor(table["label"][rows]),
        sample_ids=sample_ids,
        is_noisy=torch.as_tensor(table["is_noisy"][rows]),
        labels_sha256=labels_sha256(*trained_on),
    )


def measure_snapshot(
    checkpoint: Checkpoint,
    samples: MeasuredSamples,
    resolved: ResolvedExperiment,
    device: torch.device,
    memory: str | None,
) -> pa.Table:
    """Measure one snapshot: one row per sample and volume."""
    experiment = resolved.experiment
    how = experiment.measure
    if checkpoint.diverged is not None:
        volumes = 1 + len(how.paths.strengths) if checkpoint.identity["volumes"] == "all" else 1
        return _nothing(samples.sample_ids.numpy(), volumes, how.measures)
    source = read_weights_metadata(checkpoint.snapshot)
    network = build(
        experiment.network,
        width=int(source["width"]),
        num_classes=samples.store.num_classes,
        image_size=samples.pixels.shape[-1],
    )
    load_weights(checkpoint.snapshot, network)
    name = f"epoch {source['epoch']} of {run_name(source['width'], source['seed'])}"
    progress = Progress(len(samples.labels), "images", name)
    result = measure(
        network,
        samples.pixels,
        samples.labels,
        samples.sample_ids,
        mean=samples.store.mean,
        std=samples.store.std,
        paths=Paths(how.paths.family, how.paths.directions, how.paths.strengths),
        tangent=Tangent(
            jitters=how.jitters,
            step_size=how.step_size,
            step=how.step,
            magnitude=how.jitter_magnitude,
        ),
        volumes=None if checkpoint.identity["volumes"] == "all" else 0,
        measures=how.measures,
        seed=how.seed,
        device=device,
        dtype=getattr(torch, how.dtype),
        memory=memory,
        progress=lambda done, total: progress.advance(done - progress.done),
    )
    progress.close()
    return result


def _nothing(sample_ids: np.ndarray, volumes: int, measures: list[str]) -> pa.Table:
    """Return the table of a run that has diverged: every measure is NaN."""
    keys = {
        "sample_id": np.repeat(sample_ids, volumes),
        "volume": np.tile(np.arange(volumes, dtype=np.int16), len(sample_ids)),
    }
    names = [*(measure.rpartition(":")[2] for measure in measures), "path_length"]
    return pa.table(keys | {name: np.full(len(sample_ids) * volumes, np.nan) for name in names})


def write_checkpoint(
    checkpoint: Checkpoint,
    result: pa.Table,
    samples: MeasuredSamples,
    resolved: ResolvedExperiment,
    device: torch.device,
) -> None:
    """Write what was measured of a snapshot as its table (specification, section 6)."""
    metadata = {
        **checkpoint.expected,
        **checkpoint.identity,
        "experiment_config": resolved.contents["experiment"],
        "dataset_config": resolved.contents["dataset"],
        "config_hash": resolved.identity,
        "trained_epochs": checkpoint.trained_epochs,
        **({} if checkpoint.diverged is None else {"diverged": checkpoint.diverged}),
        **provenance(device=describe(device), precision=resolved.experiment.measure.dtype),
    }
    write_table(checkpoint.table, _with_keys(result, samples, checkpoint.expected), metadata)
    log(f"{checkpoint.table} written: {len(samples.labels)} images")


def _with_keys(table: pa.Table, samples: MeasuredSamples, source: dict[str, str]) -> pa.Table:
    """Put the columns that tell a checkpoint and a sample in front of the measures."""
    noisy = dict(zip(samples.sample_ids.tolist(), samples.is_noisy.tolist(), strict=True))
    rows = table.num_rows
    keys = {
        "experiment": pa.array([source["experiment"]] * rows).dictionary_encode(),
        "width": pa.array([int(source["width"])] * rows, pa.int32()),
        "seed": pa.array([int(source["seed"])] * rows, pa.int64()),
        "epoch": pa.array([int(source["epoch"])] * rows, pa.int32()),
        "sample_id": table["sample_id"],
        "is_noisy": pa.array([noisy[i] for i in table["sample_id"].to_pylist()]),
    }
    measures = {key: table[key] for key in table.column_names if key != "sample_id"}
    return pa.table({**keys, **measures})


def measuring_code(experiment: Experiment) -> str:
    """Return a hash of the code that determines a measurement."""
    package = Path(__file__).parents[1]
    sharpness = (path for path in package.glob("sharpness/*.py") if "command" not in path.name)
    return code_digest(
        package / "randomness.py",
        package / "data" / "loading.py",
        *sharpness,
        *package.glob("networks/*.py"),
        *package.glob("kernels/*.py"),
        *network_sources(experiment.network),
        *measure_sources(experiment.measure.measures),
    )
