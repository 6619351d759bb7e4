"""Time this machine for a minute, and print what is still to be done and what it will cost.

    smoothdescent plan --settings "$(smoothdescent config --scale paper --json)" \\
        --data results/paper/data --output results/paper/costs.json

The costs are kept in the output, from which jobs on a cluster get their time limits. Run it on the
kind of machine that will do the work; `snakemake plan` calls it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoothdescent.config.load import parse_settings
from smoothdescent.config.schema import Study
from smoothdescent.data.store import open_store
from smoothdescent.devices import choose_device, describe, prepare_training
from smoothdescent.plan.calibration import calibrate, startup_seconds
from smoothdescent.plan.forecast import Calibration, report
from smoothdescent.progress import log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--settings", required=True, help="the study in force, as JSON")
    parser.add_argument("--data", required=True, type=Path, help="folder of decoded data sets")
    parser.add_argument("--output", required=True, type=Path, help="the costs, as JSON")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each timing (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Calibrate, write the costs and print the plan.

    Raises:
        UserError: the configuration or a data set is missing or damaged.
    """
    study = parse_settings(Study, args.settings, "--settings")
    device = choose_device(study.device)
    prepare_training(device, args.threads, study.deterministic)
    experiments = {}
    for name, experiment in study.experiments.items():
        log(f"timing {name}")
        store = open_store(args.data / f"{experiment.data.dataset}.safetensors")
        experiments[name] = calibrate(experiment, store, device, study.memory, args.seconds)
    calibration = Calibration(describe(device), startup_seconds(), experiments)
    calibration.save(args.output)
    print(report(calibration, study))
