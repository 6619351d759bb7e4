"""What evaluations, history, snapshots and saving add to the time of a training.

As at the scale `paper`: batches of 128, an evaluation of the training and the test set every 10
epochs, a test set a fifth as large, and a leased run's folder. Snapshots are more frequent: one in
20 epochs, where the paper's are 20 in 4,000. Slices of 10 epochs with and without all that take
turns in one process; the median of the ratios is printed.

python benchmarks/overhead.py
python benchmarks/overhead.py --widths 4 16 64 --device cuda --images 49000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from smoothdescent.config.schema import Experiment
from smoothdescent.devices import prepare_training
from smoothdescent.lease import Lease
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.folder import RunFolder, StopRequest
from smoothdescent.training.run import Run, new_run
from smoothdescent.training.step import Step

EPOCHS = 10
SLICES = 5
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
    request = StopRequest()
    print("width  s of 10 epochs  added")
    for width in args.widths:
        bare, full = Training(width, args.images, device), Training(width, args.images, device)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "run"
            with Lease(path) as lease:
                folder = RunFolder(path, {}, "", lease)
                full.save_in(folder, request)
                pairs = [(bare.seconds(), full.seconds()) for _ in range(1 + SLICES)][1:]
        ratio = statistics.median(f / b for b, f in pairs)
        print(
            f"{width:5} {statistics.median(b for b, _ in pairs):15.2f} {ratio - 1:6.1%}", flush=True
        )


class Training:
    """A training in slices of some epochs.

    Args:
        width: of its ConvNet.
        images: in the training set.
        device: where to train.
    """

    def __init__(self, width: int, images: int, device: torch.device):
        self.experiment = Experiment(
            data={"dataset": "procedural"},
            network="convnet",
            optimizer={"name": "sgd", "learning_rate": 1e-4},
            batch_size=128,
            widths=[width],
            seeds=[0],
            epochs=10**6,
            evaluate_every=10**6,
            measure={"paths": {"family": "shift"}},
        )
        self.data = random_data(images, images // 5, device)
        shape = {"num_classes": CLASSES, "image_size": SIZE}
        self.run: Run = new_run(self.experiment, width=width, seed=0, device=device, **shape)
        self.run.history.append({"epoch": 0})
        self.step = Step(self.run, self.data, self.experiment)
        self.hooks = {}

    def save_in(self, folder: RunFolder, request: StopRequest) -> None:
        """Evaluate every 10 epochs from now on, and save as the workflow does."""
        self.experiment = self.experiment.model_copy(update={"evaluate_every": EPOCHS})
        listener = request.listener()

        def on_epoch() -> None:
            if self.run.epoch % (2 * EPOCHS) == 0:
                folder.save_snapshot(self.run)

        self.hooks = {
            "on_step": lambda samples: folder.save_if_due(self.run, listener, minutes=5),
            "on_epoch": on_epoch,
        }

    def seconds(self) -> float:
        """Train for some epochs and return the time."""
        start = time.perf_counter()
        until = self.run.epoch + EPOCHS
        train(
            self.run,
            self.data,
            self.experiment,
            seed=0,
            until=until,
            evaluate_at=set(),
            step=self.step,
            **self.hooks,
        )
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
