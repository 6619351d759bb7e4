"""Measure the sharpness of one network around training images, into one Parquet table.

    smoothdescent measure --network convnet --width 4 --output sharpness.parquet \\
        --weights results/demo/convnet-cifar10-noise20/runs/w4_s0/snapshots/e10.safetensors \\
        --data results/demo/data/procedural10.safetensors --samples 100 --strengths 1 2 3 4

The data are a file written by prepare-data, a folder of Parquet shards in the layout of the Hugging
Face hub, or a data set's settings as for prepare-data. The labels trained on are those of the data,
or those of a label table written by make-labels.

Weights that this program has saved say what they belong to: their width and normalisation are
taken where the command line leaves them open, images are averaged down to their size, and what
contradicts them is refused, or said where it may be meant (other data, other labels).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from smoothdescent.data.settings import read_settings
from smoothdescent.data.sources import read_source
from smoothdescent.data.store import open_store
from smoothdescent.devices import choose_device, describe
from smoothdescent.errors import UserError
from smoothdescent.files import (
    read_metadata,
    read_table,
    sha256_bytes,
    sha256_file,
    write_table,
)
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import load_weights, read_weights_metadata, weights_dtypes
from smoothdescent.progress import Progress, log
from smoothdescent.provenance import provenance
from smoothdescent.sharpness.engine import measure
from smoothdescent.sharpness.paths import Paths, ShiftPaths
from smoothdescent.sharpness.tangent import STEPS, Tangent

SVD_STRENGTHS = {32: (5, 10, 15, 20, 22, 25), 16: (2, 4, 6, 8, 10, 12)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--network", required=True, help="registered name, or import path package.module:factory")
    add("--width", type=int, help="base width, for a network that has one")
    add("--weights", required=True, help="the network's weights (.safetensors)")
    add("--data", required=True, help="data set file, folder of Parquet shards, or settings")
    add("--split", choices=("train", "test"), default="train", help="images to measure (train)")
    add("--labels", help="label table with the labels trained on; its split 'train' is measured")
    add("--mean", type=float, nargs="+", help="per channel of [0,1] pixels; default: the data's")
    add("--std", type=float, nargs="+", help="likewise")
    add("--output", required=True, help="the table to write (.parquet)")
    add("--samples", type=int, help="measure the first SAMPLES samples; default: all")
    add("--paths", choices=("svd", "shift"), default="svd", help="path family (svd)")
    add("--directions", type=int, default=4, help="paths per image, P (4)")
    add("--strengths", type=float, nargs="+", help="increasing; default: by image size")
    add("--volumes", type=int, help="measure volumes 0 to this; default: all")
    add("--jitters", type=int, default=4, help="colour jitters per sample, M (4)")
    add("--magnitude", type=float, default=0.01, help="of the jitters (0.01)")
    add("--step-size", type=float, default=0.1, help="delta of equation 5 (0.1)")
    add("--step", choices=STEPS, default="delta", help="evaluate at x + delta u, or at x + u")
    add("--seed", type=int, default=0, help="seed of the jitters (0)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--memory", help="working memory, such as 1GiB (the default on a CPU)")


@dataclass(frozen=True)
class LabelledImages:
    """Images of one split, their labels int64 [N], and what belongs to them.

    Images are uint8 [N, S, S, 3], or float32 in [0,1] once they have been averaged.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    source: dict[str, str]


def run(args: argparse.Namespace) -> None:
    """Measure and write the table.

    Raises:
        UserError: an argument or a file is at fault.
    """
    said = read_weights_metadata(args.weights)
    data = _read_data(args, said)
    width = _check_claims(args, said, data)
    labels, sample_ids, is_noisy = _choose_samples(args, data, said.get("labels_sha256"))
    if len(sample_ids) < len(data.images):
        data = replace(data, images=data.images[sample_ids])
    data = _at_size(args.weights, said, data)
    size = data.images.shape[1]
    network = build(args.network, width=width, num_classes=data.num_classes, image_size=size)
    load_weights(args.weights, network)
    device = choose_device(args.device)
    paths = _paths(args, size)
    tangent = Tangent(args.jitters, args.step_size, args.step, args.magnitude)
    progress = Progress(len(sample_ids), "images", "measuring")
    table = measure(
        network,
        data.images,
        labels,
        sample_ids,
        mean=data.mean,
        std=data.std,
        paths=paths,
        tangent=tangent,
        volumes=args.volumes,
        layout="NHWC",
        seed=args.seed,
        device=device,
        dtype=getattr(torch, args.dtype),
        memory=args.memory,
        progress=lambda done, total: progress.advance(done - progress.done),
    )
    progress.close()
    if is_noisy is not None:
        rows_per_sample = table.num_rows // len(sample_ids)
        column = pa.array(np.repeat(is_noisy, rows_per_sample))
        table = table.add_column(1, "is_noisy", column)
    settings = {key: value for key, value in vars(args).items() if key != "command"}
    settings |= {"strengths": paths.strengths, "mean": data.mean, "std": data.std}
    settings |= {"width": width, "image_size": size}
    metadata = {
        "settings": settings,
        "weights_sha256": sha256_file(args.weights),
        "weights_dtypes": weights_dtypes(args.weights),
        **data.source,
        **provenance(device=describe(device), dtype=args.dtype),
    }
    write_table(args.output, table, metadata)
    print(
        f"{args.output}: {len(sample_ids)} samples, {int(table['volume'][-1].as_py()) + 1} volumes"
    )


def _check_claims(
    args: argparse.Namespace, said: dict[str, str], data: LabelledImages
) -> int | None:
    """Hold what the weights say of themselves against the command line, and return the width."""
    width = args.width
    if width is None and said.get("width", "None") != "None":
        width = int(said["width"])
        log(f"width {width}, as {args.weights} says")
    for key, option, given in (
        ("network", "--network", args.network),
        ("width", "--width", str(width)),
        ("num_classes", f"--data {args.data}: its number of classes", str(data.num_classes)),
    ):
        if said.get(key, given) != given:
            raise UserError(f"{option} is {given}, but {args.weights} says {key} {said[key]}")
    here = data.source.get("data_sha256")
    if here is not None and said.get("data_sha256", here) != here:
        log(f"{args.weights} was trained on other data than --data {args.data}")
    return width


def _at_size(weights: str, said: dict[str, str], data: LabelledImages) -> LabelledImages:
    """Average images down to the size that the weights were trained at, as training does."""
    stored = data.images.shape[1]
    size = int(said.get("image_size", stored))
    if size == stored:
        return data
    if stored % size:
        raise UserError(
            f"{weights} says image_size {size}, but the data have images of {stored} pixels, "
            "expected a multiple"
        )
    log(f"images of {stored} pixels are averaged down to image_size {size}, as {weights} says")
    block = stored // size
    blocks = data.images.reshape(-1, size, block, size, block, 3)
    sums = blocks.sum(axis=(2, 4), dtype=np.float32)  # of whole numbers below 2^24: exact
    return replace(data, images=sums / np.float32(255 * block**2))


def _read_data(args: argparse.Namespace, said: dict[str, str]) -> LabelledImages:
    """Open or decode the data set that --data names."""
    if args.data.endswith(".safetensors"):
        store = open_store(args.data)
        split = store.train if args.split == "train" else store.test
        images, labels = split.images, split.labels
        mean, std, classes = store.mean, store.std, store.num_classes
        source = {"data": store.description, "data_sha256": store.sha256}
    else:
        decoded = read_source(_source_settings(args.data), threads=torch.get_num_threads())
        images = getattr(decoded, f"{args.split}_images")
        labels = getattr(decoded, f"{args.split}_labels")
        mean, std, classes = decoded.mean, decoded.std, len(decoded.class_names)
        source = {"data": decoded.description}
    mean = _normalisation("mean", args, said, mean)
    std = _normalisation("std", args, said, std)
    if mean is None or std is None:
        raise UserError(
            f"--data {args.data} does not tell the mean and std that the network was trained with; "
            "give --mean and --std"
        )
    return LabelledImages(images, labels, tuple(mean), tuple(std), classes, source)


def _normalisation(
    name: str, args: argparse.Namespace, said: dict[str, str], stored: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return the mean or std of the command line, else of the weights, else of the data."""
    given = getattr(args, name)
    trained = json.loads(said[name]) if name in said else None
    if given and trained and list(given) != trained:
        raise UserError(f"--{name} is {given}, but {args.weights} says {name} {trained}")
    if trained and stored is not None and list(stored) != trained:
        log(f"{name} {trained}, as {args.weights} says, not that of --data {args.data}")
    return given or trained or stored


def _source_settings(data: str) -> dict[str, Any]:
    if data.lstrip().startswith("{"):
        return read_settings(data)
    path = Path(data)
    if path.is_dir():
        return {"source": "parquet", "path": data}
    if not path.is_file():
        raise UserError(
            f"--data {data} does not exist; expected a data set file, a folder of Parquet shards, "
            "or settings as JSON or as a YAML file"
        )
    return read_settings(data)


def _choose_samples(
    args: argparse.Namespace, data: LabelledImages, trained_on: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return labels int64 [n], sample ids int64 [n] and, with a label table, who is noisy.

    `trained_on` is the checksum of the labels that the weights were trained on, if they say.
    """
    labels, sample_ids, is_noisy = data.labels, np.arange(len(data.labels)), None
    if args.labels is not None:
        if args.split != "train":
            raise UserError("--labels holds labels of training images; expected --split train")
        columns = ["sample_id", "label", "is_noisy", "split"]
        table = read_table(args.labels, columns)
        made_from = read_metadata(args.labels).get("data_sha256")
        if data.source.get("data_sha256", made_from) != made_from:
            raise UserError(
                f"{args.labels} was made from other data than {args.data}: its key 'data_sha256' "
                f"is {made_from}, the data set's checksum is {data.source['data_sha256']}"
            )
        table = table.filter(pc.equal(table["split"], "train")).sort_by("sample_id")
        sample_ids, labels, is_noisy = (table[name].to_numpy() for name in columns[:3])
        if len(sample_ids) == 0 or sample_ids[0] < 0 or sample_ids[-1] >= len(data.images):
            raise UserError(
                f"{args.labels} names training samples that --data {args.data} does not have; "
                f"expected at least one, with sample_id 0 to {len(data.images) - 1}"
            )
    columns = (np.asarray(column, dtype=np.int64) for column in (sample_ids, labels))
    found = sha256_bytes(*(column.tobytes() for column in columns))
    if trained_on is not None and args.split == "train" and found != trained_on:
        log(f"{args.weights} was trained on other labels or samples; those are given by --labels")
    count = len(sample_ids) if args.samples is None else args.samples
    if not 1 <= count <= len(sample_ids):
        raise UserError(f"--samples is {count}; expected 1 to {len(sample_ids)}")
    return labels[:count], sample_ids[:count], None if is_noisy is None else is_noisy[:count]


def _paths(args: argparse.Namespace, size: int) -> Paths:
    strengths = args.strengths
    if strengths is None:
        if args.paths == "svd" and size not in SVD_STRENGTHS:
            raise UserError(
                f"--strengths is missing; images of {size} pixels have no default singular values "
                "to erase"
            )
        strengths = SVD_STRENGTHS[size] if args.paths == "svd" else ShiftPaths().strengths
    return Paths(args.paths, args.directions, strengths)
