"""Print the configuration in force at a scale, or write it resolved to one experiment."""

from __future__ import annotations

import argparse

from smoothdescent.config.load import dump, read_yaml, resolve, write_experiment
from smoothdescent.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", nargs="?", default="config.yaml", help="default: config.yaml")
    parser.add_argument("--scale", help="default: the file's")
    parser.add_argument("--experiment", help="only this experiment")
    parser.add_argument("--output", help="file to write; default: standard output")


def run(args: argparse.Namespace) -> None:
    """Print or write the resolved configuration.

    Raises:
        UserError: the configuration is at fault, or lacks the experiment.
    """
    config = read_yaml(args.file)
    if args.scale:
        config["scale"] = args.scale
    study = resolve(config, args.file)
    if args.experiment:
        if args.experiment not in study.experiments:
            raise UserError(
                f"--experiment is {args.experiment!r}, expected one of "
                f"{', '.join(study.experiments)}"
            )
        study = study.restricted_to(args.experiment)
    if args.output:
        [experiment] = study.experiments if args.experiment else [None]
        if experiment is None:
            raise UserError("--output needs --experiment: a resolved file holds one experiment")
        write_experiment(study, experiment, args.output)
    else:
        print(dump(study), end="")
