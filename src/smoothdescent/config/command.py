"""Print the configuration in force at a scale, or an experiment's as the stages take it.

    smoothdescent config --scale paper
    smoothdescent config --experiment convnet-cifar10-noise20 --json

The stages take the settings of an experiment by value: the second form prints them.
"""

from __future__ import annotations

import argparse
import sys

from smoothdescent.config.load import dump, dump_experiment, overrides, read_yaml, resolve
from smoothdescent.errors import UserError
from smoothdescent.files import canonical_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", nargs="?", default="config.yaml", help="default: config.yaml")
    parser.add_argument("--scale", help="default: the file's")
    parser.add_argument("--experiment", help="only this experiment")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> None:
    """Print the resolved configuration.

    Raises:
        UserError: the configuration is at fault, or lacks the experiment.
    """
    config = read_yaml(args.file)
    if args.scale:
        config["scale"] = args.scale
    study = resolve(config, args.file)
    for line in overrides(config):
        print(f"# {line}", file=sys.stderr)
    if args.experiment is None:
        print(canonical_json(study.model_dump(mode="json")) if args.json else dump(study))
        return
    if args.experiment not in study.experiments:
        raise UserError(
            f"--experiment is {args.experiment!r}, expected one of {', '.join(study.experiments)}"
        )
    resolved = study.resolved(args.experiment)
    as_json = canonical_json(resolved.model_dump(mode="json"))
    print(as_json if args.json else dump_experiment(resolved))
