"""Print the configuration in force at a scale, or what a stage of an experiment takes of it.

The stages take their settings by value, as JSON:

    smoothdescent train --settings "$(smoothdescent config --experiment NAME --stage train)" ...
"""

from __future__ import annotations

import argparse

from smoothdescent.config.load import dump, dump_experiment, read_yaml, resolve
from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import canonical_json

STAGES = {
    "make-labels": lambda resolved: resolved.label_settings,
    "train": lambda resolved: resolved.training_settings.model_dump(mode="json"),
    "measure-runs": lambda resolved: resolved.measuring_settings.model_dump(mode="json"),
    "tables": lambda resolved: resolved.model_dump(mode="json"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", nargs="?", default="config.yaml", help="default: config.yaml")
    parser.add_argument("--scale", help="default: the file's")
    parser.add_argument("--experiment", help="only this experiment")
    parser.add_argument("--stage", choices=STAGES, help="what this stage takes of the experiment")


def run(args: argparse.Namespace) -> None:
    """Print the resolved configuration.

    Raises:
        UserError: the configuration is at fault, or lacks the experiment.
    """
    config = read_yaml(args.file)
    if args.scale:
        config["scale"] = args.scale
    study = resolve(config, args.file)
    if args.experiment is None:
        if args.stage:
            raise UserError("--stage needs --experiment")
        print(dump(study), end="")
        return
    if args.experiment not in study.experiments:
        raise UserError(
            f"--experiment is {args.experiment!r}, expected one of {', '.join(study.experiments)}"
        )
    resolved = study.resolved(args.experiment)
    print(stage_settings(resolved, args.stage) if args.stage else dump_experiment(resolved).rstrip())


def stage_settings(resolved: ResolvedExperiment, stage: str) -> str:
    """Return what a stage takes of an experiment, as JSON that equal settings share."""
    return canonical_json(STAGES[stage](resolved))
