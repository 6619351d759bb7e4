"""What evaluations, history, snapshots and saving add to the time of a training.

Epochs, evaluations and saves take turns, and the median of the ratios is printed. Each is weighed
as at the scale `paper`: batches of 128; the training set and the test set, a fifth as large, are
evaluated every 10 epochs; 20 snapshots and 6 states in 4,000 epochs of 49,000 images; an autosave
every five minutes; a look at the clock and at signals after each step.

python benchmarks/overhead.py
python benchmarks/overhead.py --widths 4 16 64 --device cuda --images 49000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from smoothdescent.config.schema import Experiment
from smoothdescent.devices import prepare_training
from smoothdescent.lease import Lease
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import evaluation_row, train
from smoothdescent.training.folder import RunFolder, StopRequest
from smoothdescent.training.run import new_run
from smoothdescent.training.step import Step, choose_kernels

BATCH, EVALUATE_EVERY, AUTOSAVE_MINUTES = 128, 10, 5
EPOCHS, IMAGES, SAVES = 4000, 49000, 26
TURNS = 11
SIZE = 32
CLASSES = 10


def main() -> None:
    """Print one line per width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--widths", type=int, nargs="+", default=[1, 4, 16], help="base widths of ConvNets")
    add("--images", type=int, default=980, help="training images (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    prepare_training(device, 1)
    print("width  s of an epoch  evaluations  each step   saves    all")
    for width in args.widths:
        report(width, args.images, device)


def report(width: int, images: int, device: torch.device) -> None:
    """Print what each part adds to a training."""
    experiment = Experiment(
        data={"dataset": "procedural"},
        network="convnet",
        optimizer={"name": "sgd", "learning_rate": 1e-4},
        batch_size=BATCH,
        widths=[width],
        seeds=[0],
        epochs=10**6,
        evaluate_every=10**6,
        measure={"paths": {"family": "shift"}},
    )
    data = random_data(images, images // 5, device)
    shape = {"num_classes": CLASSES, "image_size": SIZE}
    run = new_run(experiment, width=width, seed=0, device=device, **shape)
    run.history.append({"epoch": 0})
    choose_kernels(run, data, experiment, width=width, **shape)
    step = Step(run, data, experiment)
    listener = StopRequest().listener()

    def epoch() -> None:
        train(run, data, experiment, seed=0, until=run.epoch + 1, evaluate_at=set(), step=step)

    with tempfile.TemporaryDirectory() as temporary, Lease(Path(temporary) / "run") as lease:
        folder = RunFolder(Path(temporary) / "run", {}, {}, lease)

        def looks() -> None:
            for _ in range(100):
                folder.save_if_due(run, folder.state, listener, AUTOSAVE_MINUTES)

        def save() -> None:
            folder.save_snapshot(run)
            folder.save_state(run, folder.state)

        parts = (epoch, lambda: evaluation_row(run, data), looks, save)
        turns = [[clocked(part, device) for part in parts] for _ in range(1 + TURNS)][1:]
    steps = -(-images // BATCH)
    added = []
    for training, evaluation, look, saving in turns:
        paper = training * IMAGES / images
        saves = SAVES / (EPOCHS * paper) + 1 / (60 * AUTOSAVE_MINUTES)
        shares = (
            evaluation / (EVALUATE_EVERY * training),
            steps * look / 100 / training,
            saving * saves,
        )
        added.append((*shares, sum(shares)))
    evaluations, looking, saves, everything = (
        statistics.median(part) for part in zip(*added, strict=True)
    )
    print(
        f"{width:5} {statistics.median(turn[0] for turn in turns):14.3f} {evaluations:12.1%} "
        f"{looking:10.2%} {saves:7.2%} {everything:6.1%}",
        flush=True,
    )


def clocked(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def random_data(train_images: int, test_images: int, device: torch.device) -> TrainingData:
    """Return random images and labels."""
    count = train_images + test_images
    images = torch.randn(count, SIZE, SIZE, 3).to(device)
    labels = torch.randint(CLASSES, (count,)).to(device)
    return TrainingData(
        images=images[:train_images],
        labels=labels[:train_images],
        is_noisy=torch.rand(train_images, device=device) < 0.2,
        sample_ids=torch.arange(train_images, device=device),
        test_images=images[train_images:],
        test_labels=labels[train_images:],
        corrupted_classes=None,
    )


if __name__ == "__main__":
    main()
