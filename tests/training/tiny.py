"""A tiny experiment whose files lie in a folder, and its training command line."""

import os
import sys
from pathlib import Path

import yaml

from smoothdescent.config.load import read_yaml, resolve
from smoothdescent.data.sources import read_source
from smoothdescent.data.store import write_store
from smoothdescent.files import canonical_json

NAME = "convnet-cifar10-noise20"
CONFIG = read_yaml(Path(__file__).parents[2] / "config.yaml")
SIZES = {
    "widths": [2],
    "seeds": [0],
    "epochs": 6,
    "snapshots": [0, 1, 3],
    "final_snapshots": {"count": 1, "every": 1},
    "evaluate_every": 2,
    "batch_size": 16,
}


def tiny_config(**changes):
    """Return the demo study cut down to seconds; `changes` are keys of its experiment."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["scales"]["demo"]["defaults"]["measure"]["paths"]["strengths"] = [1, 3]
    del config["scales"]["demo"]["defaults"]["data"]["train_samples"]
    del config["scales"]["demo"]["experiments"][NAME]["measure"]
    config["scales"]["demo"]["experiments"][NAME] |= SIZES | changes
    images = {"train": 100, "test": 40, "size": 8, "max_shift": 2, "noise": 0.6}
    config["datasets"]["procedural10"] |= images
    return config


def tiny_study(**changes):
    """Return the same, resolved."""
    return resolve(tiny_config(**changes))


class Files:
    """The input files of a tiny experiment in a folder, and where its outputs go."""

    def __init__(self, folder, study=None):
        from smoothdescent.cli import main

        self.folder = folder
        study = study or tiny_study()
        self.resolved = study.resolved(NAME)
        self.settings = canonical_json(self.resolved.model_dump(mode="json"))
        self.data = folder / "data.safetensors"
        self.labels = folder / "labels.parquet"
        if not self.data.exists():
            write_store(
                self.data,
                "procedural10",
                read_source(study.datasets["procedural10"].model_dump(mode="json")),
            )
        settings = canonical_json(self.resolved.label_settings)
        words = ["make-labels", "--data", self.data, "--settings", settings]
        main([str(word) for word in [*words, "--output", self.labels]])

    def train_arguments(self, *runs, tag="", autosave_minutes=5):
        """Return the arguments of a training; outputs are in a folder `runs{tag}`."""
        return [
            "train",
            *("--settings", self.settings, "--data", self.data, "--labels", self.labels),
            *("--runs", *(runs or ["w2_s0"]), "--folder", self.folder / f"runs{tag}"),
            *("--autosave-minutes", autosave_minutes),
        ]

    def train(self, *runs, **keywords):
        """Train in this process."""
        from smoothdescent.cli import main

        main([str(a) for a in self.train_arguments(*runs, **keywords)])

    @property
    def gathered(self):
        """The outputs of `gather`, by name."""
        suffixes = dict.fromkeys(("history", "sharpness", "samples"), "parquet") | {
            "config": "yaml"
        }
        return {name: self.folder / f"{name}.{suffix}" for name, suffix in suffixes.items()}

    def gather_arguments(self):
        """Return the arguments that gather the tables of all runs in the folder."""
        outputs = [
            word for name, path in self.gathered.items() for word in (f"--output-{name}", path)
        ]
        inputs = ["--settings", self.settings, "--labels", self.labels]
        return ["tables", *inputs, "--folder", self.folder / "runs", *outputs]

    def gather(self):
        """Gather the tables in this process."""
        from smoothdescent.cli import main

        main([str(a) for a in self.gather_arguments()])

    def command(self, *runs, **keywords):
        """Return the command that trains in another process."""
        words = [str(a) for a in self.train_arguments(*runs, **keywords)]
        return [sys.executable, "-m", "smoothdescent", *words]


def contents(folder):
    """Return the bytes of all files below a folder but its logs, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log"
    }


class Interrupt:
    """Raises a signal in this process after a number of steps."""

    def __init__(self, steps, number):
        self.steps, self.number = steps, number

    def __call__(self, original):
        def train(*arguments, on_step, **keywords):
            def interrupted(samples):
                self.steps -= 1
                if self.steps == 0:
                    os.kill(os.getpid(), self.number)
                on_step(samples)

            return original(*arguments, on_step=interrupted, **keywords)

        return train
