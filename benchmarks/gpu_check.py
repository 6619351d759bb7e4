"""Try and time everything on one GPU, in at most eight minutes, and print one report.

The tests marked `gpu`, the speed tables of docs/performance.md, and a study in miniature from real
CIFAR images of 32x32 pixels (without a folder of them, from drawn ones). The report is Markdown,
made to be added to docs/performance.md.

make gpu-check
make gpu-check CIFAR10=folder/of/parquet/shards
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

PYTHON = sys.executable
REPOSITORY = Path(__file__).parents[1]
WIDTHS = ("4", "16", "64")
TIMED = ("--device", "cuda", "--widths", *WIDTHS)
LAST_LINES = 40  # of what a part printed


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
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_check: no CUDA device is visible; expected a machine with a GPU")
    gpu = torch.cuda.get_device_properties(0)
    print(
        f"### {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} visible\n"
        f"\ntorch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}, {time.strftime('%Y-%m-%d')}"
    )
    with tempfile.TemporaryDirectory(prefix="smoothdescent-") as folder:
        failed = [part.title for part in parts(Path(folder), args.cifar10) if not report(part)]
    if failed:
        sys.exit(f"gpu_check: failed or cut short: {', '.join(failed)}")


def parts(folder: Path, cifar10: str | None) -> list[Part]:
    """Return the parts, whose times add up to eight minutes."""
    train = [PYTHON, "benchmarks/train.py", *TIMED, "--seconds", "0.5", "--precision"]
    measure = [PYTHON, "benchmarks/sharpness.py", *TIMED, "--naive-images", "0", "--slices", "4"]
    overhead = [PYTHON, "benchmarks/overhead.py", *TIMED, "--images", "10000"]
    return [
        Part("Tests", [PYTHON, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"], 170),
        Part("Training, float32", [*train, "float32"], 70),
        Part("Training, TF32", [*train, "tf32"], 70),
        Part("Sharpness", [*measure, "--images", "512"], 40),
        Part("Beside the training", overhead, 30),
        Part("A study in miniature", study(folder, cifar10), 100),
    ]


def study(folder: Path, cifar10: str | None) -> list[str]:
    """Return the command of a study of both families at a few widths."""
    if cifar10:
        name, images = "cifar10", {"source": "parquet", "path": str(Path(cifar10).resolve())}
    else:
        name, images = "procedural10", {"size": 32, "train": 5000, "test": 1000}
    sizes = {
        "data": {"train_samples": 5000, "validation": 0},
        "widths": [4, 16],
        "epochs": 20,
        "evaluate_every": 10,
        "snapshots": [0, 5],
        "seeds_per_job": 2,
        "measure": {"samples": 200},
    }
    drawn = {"data": {"dataset": name}}
    chosen = {"convnet-cifar10-noise20": drawn, "resnet18-cifar10-noise20": drawn}
    others = {"convnet-cifar100": None, "convnet-cifar100-asymmetric": None}
    return [
        str(Path(PYTHON).with_name("snakemake")),
        *("--cores", "1", "--quiet", "all", "--config", "scale=gpu", "device=cuda"),
        f"results={folder}",
        f"datasets={json.dumps({name: images})}",
        f"scales={json.dumps({'gpu': {'defaults': sizes, 'experiments': chosen | others}})}",
    ]


def report(part: Part) -> bool:
    """Run a part, print its section, and return whether it succeeded in its time."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            part.command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            ended = f"exit code {process.wait(part.seconds)}"
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            ended = f"cut short after {part.seconds} s"
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
