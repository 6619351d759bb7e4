"""Measure the checkpoints of runs, one table each, up to the end of a segment.

Every snapshot is measured at the training points (volume 0), the last one of the training over all
volumes. The tables are kept in the runs' folders; one that was measured with the same settings,
weights and code is left alone, so that nothing is measured twice after a crash.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from smoothdescent.config.load import read_experiment
from smoothdescent.config.schema import Experiment, Study
from smoothdescent.data.loading import load_pixels, read_label_table
from smoothdescent.data.store import Store, open_store
from smoothdescent.devices import choose_device, describe, set_threads
from smoothdescent.errors import UserError
from smoothdescent.files import (
    canonical_json,
    code_digest,
    fingerprint,
    read_metadata,
    sha256_file,
    write_table,
    write_text,
)
from smoothdescent.networks.registry import build, network_sources
from smoothdescent.networks.weights import load_weights, read_weights_metadata
from smoothdescent.progress import Progress, log, logging_to
from smoothdescent.provenance import provenance
from smoothdescent.randomness import numpy_generator
from smoothdescent.runs import log_path, parse_run, run_name, sharpness_path, snapshot_path
from smoothdescent.sharpness import Paths, Tangent, measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--config", required=True, help="the experiment's resolved configuration")
    parser.add_argument("--data", required=True, help="the decoded data set")
    parser.add_argument("--labels", required=True, help="the label table")
    parser.add_argument(
        "--runs", required=True, nargs="+", type=parse_run, help="runs, such as w4_s0 w4_s1"
    )
    parser.add_argument("--until", required=True, type=int, help="last epoch to measure")
    parser.add_argument("--folder", required=True, type=Path, help="folder of the runs' folders")
    parser.add_argument("--receipt", required=True, type=Path, help="file that says it is done")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")


@dataclass(frozen=True)
class Samples:
    """The measured training samples: pixels float32 [N, 3, S, S] in [0,1], and their labels."""

    store: Store
    pixels: torch.Tensor
    labels: torch.Tensor
    sample_ids: torch.Tensor
    is_noisy: torch.Tensor


def run(args: argparse.Namespace) -> None:
    """Measure each snapshot that has no finished table yet.

    Raises:
        UserError: a file is missing, damaged or of another experiment.
    """
    study, name, experiment = read_experiment(args.config)
    set_threads(args.threads)
    device = choose_device(study.device)
    samples = measured_samples(open_store(args.data), args.labels, experiment)
    settings = [study.measure_identity(name), samples.store.sha256, _code(experiment.network)]
    for width, seed in args.runs:
        folder = args.folder / run_name(width, seed)
        with logging_to(log_path(folder)):
            for epoch in experiment.snapshot_epochs(args.until):
                _measure_epoch(folder, epoch, samples, study, name, settings, device)
    names = [run_name(width, seed) for width, seed in args.runs]
    write_text(args.receipt, canonical_json({"runs": names, "epoch": args.until}) + "\n")


def _measure_epoch(
    folder: Path,
    epoch: int,
    samples: Samples,
    study: Study,
    name: str,
    settings: list[str],
    device: torch.device,
) -> None:
    """Measure a snapshot of a run, if that is still to be done."""
    snapshot, table = snapshot_path(folder, epoch), sharpness_path(folder, epoch)
    if not snapshot.exists():
        raise UserError(
            f"{snapshot} does not exist, although its training has ended; remove "
            f"{folder.parents[1] / 'training'} and run again: what is there is kept"
        )
    all_volumes = epoch == study.experiments[name].epochs
    identity = fingerprint([*settings, sha256_file(snapshot)])
    if not is_finished(table, identity, all_volumes):
        measure_snapshot(snapshot, table, samples, study, name, identity, all_volumes, device)


def measured_samples(store: Store, labels: str | Path, experiment: Experiment) -> Samples:
    """Return the training samples that are measured: all, or a random choice of some.

    The choice depends on the measure's seed alone, so that all runs are measured at the same
    points.

    Raises:
        UserError: more samples are asked for than there are.
    """
    table = read_label_table(labels, store)
    rows = (table["split"] == "train").nonzero()[0]
    wanted = experiment.measure.samples
    if wanted is not None:
        if wanted > len(rows):
            raise UserError(
                f"measure.samples is {wanted}, but {labels} has only {len(rows)} training samples"
            )
        draw = numpy_generator(experiment.measure.seed, "measured-samples")
        rows = rows[sorted(draw.permutation(len(rows))[:wanted])]
    sample_ids = torch.as_tensor(table["sample_id"][rows])
    return Samples(
        store=store,
        pixels=load_pixels(store, sample_ids, experiment.data.image_size),
        labels=torch.as_tensor(table["label"][rows]),
        sample_ids=sample_ids,
        is_noisy=torch.as_tensor(table["is_noisy"][rows]),
    )


def is_finished(table: Path, identity: str, all_volumes: bool) -> bool:
    """Return whether a finished table has these settings and weights, and the volumes wanted."""
    if not table.exists():
        return False
    metadata = read_metadata(table)
    if metadata.get("identity") != identity:
        log(f"{table} was measured with other settings, weights or code; it is measured again")
        return False
    return metadata["volumes"] == "all" or not all_volumes


def measure_snapshot(
    path: Path,
    table: Path,
    samples: Samples,
    study: Study,
    name: str,
    identity: str,
    all_volumes: bool,
    device: torch.device,
) -> None:
    """Measure one snapshot and write its table (specification, section 6)."""
    experiment = study.experiments[name]
    settings = experiment.measure
    source = read_weights_metadata(path)
    if source.get("training_identity") != study.training_identity(name):
        raise UserError(
            f"{path} was trained with other settings than those of {name}: its training_identity "
            f"is {source.get('training_identity')!r}, expected {study.training_identity(name)!r}"
        )
    network = build(
        experiment.network,
        width=int(source["width"]),
        num_classes=samples.store.num_classes,
        image_size=samples.pixels.shape[-1],
    )
    load_weights(path, network)
    progress = Progress(len(samples.labels), "images", f"{path.stem} of {path.parent.parent.name}")
    result = measure(
        network,
        samples.pixels,
        samples.labels,
        samples.sample_ids,
        mean=samples.store.mean,
        std=samples.store.std,
        paths=Paths(settings.paths.family, settings.paths.directions, settings.paths.strengths),
        tangent=Tangent(
            jitters=settings.jitters,
            step_size=settings.step_size,
            step=settings.step,
            magnitude=settings.jitter_magnitude,
        ),
        volumes=None if all_volumes else 0,
        seed=settings.seed,
        device=device,
        dtype=getattr(torch, settings.dtype),
        memory=study.memory,
        progress=lambda done, total: progress.advance(done - progress.done),
    )
    progress.close()
    metadata = {
        "experiment_config": study.restricted_to(name).model_dump(mode="json"),
        "config_hash": study.restricted_to(name).identity(),
        "snapshot_sha256": sha256_file(path),
        "training_identity": source["training_identity"],
        "identity": identity,
        "volumes": "all" if all_volumes else "0",
        **provenance(device=describe(device), precision=settings.dtype),
    }
    write_table(table, _with_keys(result, samples, name, source), metadata)
    log(f"{table} written: {progress.done} images")


def _with_keys(table: pa.Table, samples: Samples, name: str, source: dict[str, str]) -> pa.Table:
    """Put the columns that tell a checkpoint and a sample in front of the measures."""
    noisy = dict(zip(samples.sample_ids.tolist(), samples.is_noisy.tolist(), strict=True))
    rows = table.num_rows
    keys = {
        "experiment": pa.array([name] * rows).dictionary_encode(),
        "width": pa.array([int(source["width"])] * rows, pa.int32()),
        "seed": pa.array([int(source["seed"])] * rows, pa.int64()),
        "epoch": pa.array([int(source["epoch"])] * rows, pa.int32()),
        "sample_id": table["sample_id"],
        "is_noisy": pa.array([noisy[i] for i in table["sample_id"].to_pylist()]),
    }
    measures = {key: table[key] for key in table.column_names if key != "sample_id"}
    return pa.table({**keys, **measures})


def _code(network: str) -> str:
    """Return a hash of the code that determines a measurement."""
    package = Path(__file__).parents[1]
    sharpness = (path for path in package.glob("sharpness/*.py") if "command" not in path.name)
    return code_digest(
        package / "randomness.py",
        package / "data" / "loading.py",
        *sharpness,
        *package.glob("networks/*.py"),
        *package.glob("kernels/*.py"),
        *network_sources(network),
    )
