"""Try and time everything on one GPU, in at most eight minutes, and print one report.

The tests marked `gpu`, the speed tables of docs/performance.md, and a study in miniature from real
CIFAR images of 32x32 pixels (without a folder of them, from drawn ones). The report is Markdown,
made to be added to docs/performance.md. Nothing but the package and pytest is needed.

make gpu-check
make gpu-check CIFAR10=folder/of/parquet/shards
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from smoothdescent.cli import main as run_stage
from smoothdescent.config.load import overlay, read_yaml, resolve
from smoothdescent.config.schema import Study
from smoothdescent.files import canonical_json, read_metadata, read_table
from smoothdescent.layout import history_path, run_name

PYTHON = sys.executable
REPOSITORY = Path(__file__).parents[1]
WIDTHS = ("4", "16", "64")
TIMED = ("--device", "cuda", "--widths", *WIDTHS)
LAST_LINES = 100  # of what a part printed
GRACE = 10  # seconds in which a part that is cut short may print what it has found


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        title: of its section.
        command: what is run in the repository.
        seconds: the time that it may take.
    """

    title: str
    command: list[str]
    seconds: int


def main() -> None:
    """Print the report; exit with 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", help="folder of CIFAR-10 as Parquet shards")
    parser.add_argument("--study", type=Path, help="only the study, in this folder")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_check: no CUDA device is visible; expected a machine with a GPU")
    if args.study:
        run_study(miniature(args.cifar10), args.study, "cuda")
        return
    gpu = torch.cuda.get_device_properties(0)
    print(
        f"### {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} visible\n"
        f"\ntorch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}, {time.strftime('%Y-%m-%d')}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="smoothdescent-") as folder:
        failed = [part.title for part in parts(Path(folder), args.cifar10) if not report(part)]
    if failed:
        sys.exit(f"gpu_check: failed or cut short: {', '.join(failed)}")


def parts(folder: Path, cifar10: str | None) -> list[Part]:
    """Return the parts, whose times, with what cutting one short takes, add up to eight minutes."""
    # Others import what a machine may lack.
    files = [str(f) for f in REPOSITORY.glob("tests/*/test_*.py") if "mark.gpu" in f.read_text()]
    tests = [PYTHON, "-m", "pytest", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider", *files]
    train = [PYTHON, "benchmarks/train.py", *TIMED, "--seconds", "0.5", "--precision"]
    measure = [PYTHON, "benchmarks/sharpness.py", *TIMED, "--naive-images", "0", "--slices", "4"]
    overhead = [PYTHON, "benchmarks/overhead.py", *TIMED, "--images", "10000"]
    study = [PYTHON, "benchmarks/gpu_check.py", "--study", str(folder)]
    study += ["--cifar10", str(Path(cifar10).resolve())] if cifar10 else []
    return [
        Part("Tests", tests, 170),
        Part("Training, float32", [*train, "float32"], 50),
        Part("Training, TF32", [*train, "tf32"], 50),
        Part("Sharpness", [*measure, "--images", "512"], 40),
        Part("Beside the training", overhead, 30),
        Part("A study in miniature", study, 80),
    ]


def miniature(cifar10: str | None) -> Study:
    """Return a study of both families at a few widths."""
    if cifar10:
        name, images = "cifar10", {"source": "parquet", "path": cifar10}
    else:
        name, images = "procedural10", {"size": 32, "train": 5000, "test": 1000}
    sizes = {
        "data": {"train_samples": 5000, "validation": 0},
        "widths": [4, 16],
        "epochs": 20,
        "evaluate_every": 10,
        "snapshots": [0, 5],
        "measure": {"samples": 200},
    }
    drawn = {"data": {"dataset": name}}
    chosen = {"convnet-cifar10-noise20": drawn, "resnet18-cifar10-noise20": drawn}
    others = {"convnet-cifar100": None, "convnet-cifar100-asymmetric": None}
    changes = {
        "scale": "gpu",
        "datasets": {name: images},
        "scales": {"gpu": {"defaults": sizes, "experiments": chosen | others}},
    }
    return resolve(overlay(read_yaml(REPOSITORY / "config.yaml"), changes))


def run_study(study: Study, folder: Path, device: str) -> None:
    """Train and measure a study, and print a line for each run.

    Raises:
        SystemExit: a stage has failed.
    """
    print(
        "experiment                 run      kernels               test error  epochs/s  measured"
    )
    for name, experiment in study.experiments.items():
        resolved = study.resolved(name)
        images = experiment.data.dataset
        data, labels = folder / f"{images}.safetensors", folder / f"{name}.parquet"
        if not data.exists():
            settings = canonical_json(resolved.dataset.model_dump(mode="json"))
            stage("prepare-data", "--settings", settings, "--name", images, "--output", data)
        settings = canonical_json(resolved.label_settings)
        stage("make-labels", "--data", data, "--settings", settings, "--output", labels)
        job = ["--settings", canonical_json(resolved.model_dump(mode="json")), "--data", data]
        job += ["--labels", labels, "--folder", folder / name, "--device", device, "--runs"]
        for width in experiment.widths:
            runs = [run_name(width, seed) for seed in experiment.seeds]
            training, measuring = (stage(word, *job, *runs) for word in ("train", "measure-runs"))
            for run in runs:
                history = history_path(folder / name / run)
                (condition,) = json.loads(read_metadata(history)["conditions"])
                error = read_table(history, ["test_error"])["test_error"][-1].as_py()
                speed = len(runs) * experiment.epochs / training
                print(
                    f"{name:26} {run:8} {condition['kernels']:21} {error:10.3f} {speed:9.2f} "
                    f"{measuring:7.1f} s",
                    flush=True,
                )


def stage(*words: object) -> float:
    """Run a stage of the program, and return the seconds that it took."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        run_stage([str(word) for word in words])
    return time.perf_counter() - start


def report(part: Part) -> bool:
    """Run a part, print its section, and return whether it succeeded in its time."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            part.command,
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = f"exit code {process.wait(part.seconds)}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest tells of the tests that have run
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            ended = f"cut short after {part.seconds} s"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it had started, too
        process.wait()
        output.seek(0)
        lines = output.read().splitlines()[-LAST_LINES:]
    seconds = time.monotonic() - start
    print(
        f"\n#### {part.title} ({seconds:.0f} s, {ended})\n\n```",
        *lines,
        "```",
        sep="\n",
        flush=True,
    )
    return ended == "exit code 0"


if __name__ == "__main__":
    main()
