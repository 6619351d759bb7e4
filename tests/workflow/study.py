"""A small study run through Snakemake itself, in a folder of its own."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from smoothdescent.files import read_table

REPOSITORY = Path(__file__).parents[2]
NAME = "convnet-cifar10-noise20"
SIZES = {
    "widths": [1, 2],
    "seeds": [0, 1],
    "epochs": 4,
    "snapshots": [0, 1],
    "evaluate_every": 1,
    "batch_size": 20,
}


class Study:
    """A working directory with a configuration, and Snakemake to run it."""

    def __init__(self, folder):
        self.folder = folder
        self.config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
        self.config["datasets"]["procedural10"] |= {"train": 100, "test": 50, "size": 16}
        demo = self.config["scales"]["demo"]
        demo["defaults"]["measure"]["samples"] = 8
        del demo["defaults"]["data"]["train_samples"]
        demo["experiments"] = {
            name: block if name == NAME else None for name, block in demo["experiments"].items()
        }
        demo["defaults"]["seeds_per_job"] = 1
        self.set(**SIZES)

    @property
    def results(self):
        """The folder of the experiment."""
        return self.folder / "results" / "demo" / NAME

    def set(self, **keys):
        """Change keys of the experiment and write the configuration."""
        self.config["scales"]["demo"]["experiments"][NAME] |= keys
        self.write()

    def write(self):
        """Write the configuration."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    def command(self, *arguments):
        """Return a Snakemake command line."""
        snakemake = Path(sys.executable).with_name("snakemake")
        return [snakemake, "--snakefile", REPOSITORY / "Snakefile", "--cores", "2", *arguments]

    def run(self, *arguments, succeeds=True):
        """Run Snakemake and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            text=True,
            capture_output=True,
            # The environment is not activated: jobs must find their Python by themselves.
            env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": os.defpath},
        )
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == succeeds, printed
        return printed

    def jobs(self, *arguments):
        """Return how many jobs of each rule a dry run announces."""
        counts = {}
        printed = self.run("--dry-run", *arguments)
        for line in printed.partition("Job stats:")[2].partition("\n\n")[0].splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit() and words[0] != "total":
                counts[words[0]] = int(words[1])
        return counts

    def copy_to(self, folder):
        """Return a new study with the same configuration and no results."""
        folder.mkdir(parents=True)
        other = Study(folder)
        other.config = copy.deepcopy(self.config)
        other.write()
        return other


def assert_same_tables(study, other):
    """Compare the tables of an experiment, number by number."""
    for table in ("history", "sharpness"):
        pd.testing.assert_frame_equal(
            read_table(study.results / f"{table}.parquet").to_pandas(),
            read_table(other.results / f"{table}.parquet").to_pandas(),
        )
