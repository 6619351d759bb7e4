"""Decode a data set from its source into one memory-mappable file with a checksum.

    smoothdescent prepare-data --name procedural10 --output procedural10.safetensors \\
        --settings '{"source": "procedural", "seed": 0, "train": 4000, "test": 1000}'
    smoothdescent prepare-data --name cifar10 --output cifar10.safetensors \\
        --settings '{"source": "torchvision", "name": "cifar10", "path": "data"}'

The settings are a data set's block of the configuration, as JSON or as a YAML file.
"""

from __future__ import annotations

import argparse
import time

from smoothdescent.data.settings import read_settings
from smoothdescent.data.sources import read_source
from smoothdescent.data.store import write_store
from smoothdescent.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--settings", required=True, help="the data set's block: JSON, or the name of a YAML file"
    )
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--output", required=True, help="the file to write (.safetensors)")
    parser.add_argument("--threads", type=int, default=1, help="images decoded at a time (1)")


def run(args: argparse.Namespace) -> None:
    """Decode the data set and write its file.

    Raises:
        UserError: a fault in the settings or in the files that they name.
    """
    if args.threads < 1:
        raise UserError(f"argument --threads is {args.threads}; expected at least 1")
    start = time.perf_counter()
    decoded = read_source(read_settings(args.settings), threads=args.threads)
    write_store(args.output, args.name, decoded)
    print(
        f"{args.output}: {len(decoded.train_labels)} training and {len(decoded.test_labels)} test "
        f"images of {decoded.train_images.shape[1]} pixels, {len(decoded.class_names)} classes, "
        f"in {time.perf_counter() - start:.1f} s"
    )
