"""Train runs of an experiment, and keep their snapshots and histories.

    smoothdescent train --runs w4_s0 w4_s1 --folder results/demo/convnet-cifar10-noise20/runs \\
        --data results/demo/data/procedural10.safetensors \\
        --labels results/demo/convnet-cifar10-noise20/labels.parquet \\
        --settings "$(smoothdescent config --experiment convnet-cifar10-noise20 --json)"

Finished work is not repeated: what is there and right stays, what is missing or damaged is made
again. The training state is saved every few minutes and on SIGTERM, SIGINT (which also stop the
program) and SIGUSR1; the same command then resumes, bit-identically on a CPU and, with
--deterministic, on a GPU. A run that fails does not keep the others from being trained.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from smoothdescent.config.load import parse_settings
from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.devices import choose_device, prepare_training
from smoothdescent.errors import UserError
from smoothdescent.layout import add_job_arguments
from smoothdescent.progress import log_times
from smoothdescent.training.folder import Stopped, StopRequest
from smoothdescent.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_job_arguments(parser)
    parser.add_argument(
        "--autosave-minutes", type=float, default=5.0, help="between two saves (default: 5)"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="on a GPU: use kernels that repeat every bit"
    )


def run(args: argparse.Namespace) -> None:
    """Train the runs; exit with 128 + signal number if a signal stopped it.

    Raises:
        UserError: the input is at fault, or some of the runs failed.
    """
    resolved = parse_settings(ResolvedExperiment, args.settings, "--settings")
    device = choose_device(args.device)
    prepare_training(device, args.threads, args.deterministic)
    trainer = Trainer(
        resolved,
        data=args.data,
        labels=args.labels,
        folder=args.folder,
        device=device,
        threads=args.threads,
        autosave_minutes=args.autosave_minutes,
    )
    for width in sorted({width for width, _ in args.runs}):
        trainer.check(width)
    request = StopRequest()
    workers = side_by_side(device, len(args.runs))
    with ThreadPoolExecutor(workers) as pool:
        each = pool.map if workers > 1 else map
        try:
            outcomes = each(lambda run: trainer.train(*run, request.listener()), args.runs)
            faults = [fault for fault in outcomes if fault]
        except Stopped as stop:
            sys.exit(128 + stop.number)
    if trainer.worked:
        log_times()
    if faults:
        raise UserError("; ".join(faults))


def side_by_side(device: torch.device, runs: int) -> int:
    """Return how many runs of a job are trained at a time.

    Side by side they keep a GPU busy that one narrow network leaves idle; on a CPU they would share
    its threads.
    """
    return runs if device.type == "cuda" else 1
