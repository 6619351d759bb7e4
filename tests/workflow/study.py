"""A small study run through Snakemake itself, in a folder of its own."""

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from smoothdescent.files import read_table

REPOSITORY = Path(__file__).parents[2]
NAME = "convnet-cifar10-noise20"
RULE = NAME.replace("-", "_")  # the end of its rules' names
SIZES = {
    "widths": [1, 2],
    "seeds": [0, 1],
    "epochs": 4,
    "snapshots": [0, 1],
    "final_snapshots": {"count": 1, "every": 1},
    "evaluate_every": 1,
    "batch_size": 20,
}


class Study:
    """A working directory with a configuration, and Snakemake to run it."""

    def __init__(self, folder, name=NAME):
        self.folder, self.name = folder, name
        self.config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
        images = {"train": 100, "test": 50, "size": 16, "max_shift": 2, "noise": 0.6}
        self.config["datasets"]["procedural10"] |= images
        demo = self.config["scales"]["demo"]
        paths = {"family": "svd", "strengths": [2, 4, 6, 8, 10, 12]}
        demo["defaults"]["measure"] = {"samples": 8, "paths": paths}
        del demo["defaults"]["data"]["train_samples"]
        demo["experiments"] = {
            n: block if n == name else None for n, block in demo["experiments"].items()
        }
        demo["experiments"][name].pop("measure", None)
        demo["defaults"]["seeds_per_job"] = 1
        self.set(**SIZES)

    @property
    def results(self):
        """The folder of the experiment."""
        return self.folder / "results" / "demo" / self.name

    @property
    def tables(self):
        """The targets that need all runs and no figure."""
        folder = self.results.relative_to(self.folder)
        return [f"{folder}/history.parquet", f"{folder}/sharpness.parquet"]

    def set(self, **keys):
        """Change keys of the experiment and write the configuration."""
        self.config["scales"]["demo"]["experiments"][self.name] |= keys
        self.write()

    def write(self):
        """Write the configuration."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    def command(self, *arguments):
        """Return a Snakemake command line."""
        snakemake = Path(sys.executable).with_name("snakemake")
        return [snakemake, "--snakefile", REPOSITORY / "Snakefile", "--cores", "2", *arguments]

    def run(self, *arguments, succeeds=True, path=os.defpath):
        """Run Snakemake and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            text=True,
            capture_output=True,
            # The environment is not activated: jobs must find their Python by themselves.
            env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
        )
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == succeeds, printed
        return printed

    def start(self, *arguments):
        """Start Snakemake in a session of its own, so that it can be killed with all its jobs."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def jobs(self, *arguments):
        """Return how many jobs of each rule a dry run announces."""
        return self.counted(self.run("--dry-run", *arguments))

    def counted(self, printed):
        """Return how many jobs of each rule Snakemake has printed that it runs."""
        counts = {}
        for line in printed.partition("Job stats:")[2].partition("\n\n")[0].splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit() and words[0] != "total":
                rule = words[0].removesuffix(f"_{self.name.replace('-', '_')}")
                counts[rule] = counts.get(rule, 0) + int(words[1])
        return counts

    def copy_with_results(self, folder):
        """Return a copy with its results and Snakemake's records of them."""
        copy = self.copy_to(folder)
        for name in ("results", ".snakemake"):
            # Dates are kept, links are not followed.
            subprocess.run(["cp", "-a", self.folder / name, copy.folder / name], check=True)
        return copy

    def copy_to(self, folder):
        """Return a new study with the same configuration and no results."""
        folder.mkdir(parents=True)
        other = Study(folder, self.name)
        other.config = copy.deepcopy(self.config)
        other.write()
        return other


def processes(stage, process):
    """Return the Python processes below `process` that train or measure."""
    import psutil  # which a machine with a GPU may lack

    children = psutil.Process(process.pid).children(recursive=True)
    return [c for c in children if stage in c.cmdline() and "python" in Path(c.exe()).name]


def wait_until(happened, process):
    """Wait until a function returns something, while Snakemake runs, and return it."""
    deadline = time.monotonic() + 500
    while not (found := happened()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return found


def assert_same_tables(study, other):
    """Compare the tables of an experiment, number by number."""
    for table in ("history", "sharpness"):
        pd.testing.assert_frame_equal(
            read_table(study.results / f"{table}.parquet").to_pandas(),
            read_table(other.results / f"{table}.parquet").to_pandas(),
        )
