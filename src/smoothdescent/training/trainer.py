"""Takes the runs of one experiment from what their folders hold to all of their products."""

from __future__ import annotations

from pathlib import Path

import torch

from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.data.loading import labels_sha256, load_experiment_data
from smoothdescent.devices import describe, is_emulated, kernel_choice, precision_in_force
from smoothdescent.errors import UserError
from smoothdescent.layout import log_path, run_name
from smoothdescent.lease import Deposed, Lease
from smoothdescent.networks.registry import count_parameters
from smoothdescent.progress import Progress, log, logging_to
from smoothdescent.provenance import library_versions
from smoothdescent.source_code import code_digest
from smoothdescent.training.contract import check_trainable
from smoothdescent.training.data import to_device
from smoothdescent.training.engine import train
from smoothdescent.training.folder import (
    Conditions,
    Listener,
    RunFolder,
    Stopped,
    network_code,
)
from smoothdescent.training.run import Run, new_run
from smoothdescent.training.step import choose_kernels


class Trainer:
    """Trains runs of one experiment, whose data are in memory once.

    Args:
        resolved: its settings.
        data, labels: the decoded data set and the label table.
        folder: of the runs' folders.
        device: where to train.
        threads: CPU threads of this process.
        autosave_minutes: between two saves of a training state.

    Raises:
        UserError: the data or the labels are missing or damaged.
    """

    def __init__(
        self,
        resolved: ResolvedExperiment,
        *,
        data: str,
        labels: str,
        folder: Path,
        device: torch.device,
        threads: int,
        autosave_minutes: float,
    ):
        self.folder, self.device, self.autosave_minutes = folder, device, autosave_minutes
        self.settings = settings = resolved.experiment
        self.snapshots = settings.snapshot_epochs
        self.evaluated = settings.evaluated_epochs
        self.dataset = load_experiment_data(
            data, labels, settings.data.image_size, resolved.label_settings
        )
        self.worked = False  # whether a run was not finished before
        self.data = to_device(self.dataset, settings.augmentation, device)
        self.sizes = {
            "num_classes": self.dataset.num_classes,
            "image_size": self.dataset.image_size,
        }
        trained_on = self.dataset.train
        self.identity = {
            "experiment": resolved.name,
            "network": settings.network,
            **{name: str(size) for name, size in self.sizes.items()},
            "training_identity": resolved.training_identity,
            "labels_sha256": labels_sha256(trained_on.sample_ids, trained_on.labels),
            "data_sha256": self.dataset.sha256,
        }
        self.identity |= network_code(settings.network)
        if is_emulated(settings.precision, device):
            log(f"{describe(device)} has no units for {settings.precision}, and emulates it slowly")
        # A training is repeated bit for bit where all of these are the same (and, on a GPU,
        # `deterministic` is true).
        self.conditions: Conditions = {
            "code": training_code(),
            "device": describe(device),
            "precision": precision_in_force(settings.precision, device),
            "threads": threads,
            **kernel_choice(device),
            **{name: library_versions().get(name) for name in ("torch", "numba")},
        }

    def train(self, width: int, seed: int, listener: Listener) -> str | None:
        """Complete the products of a run, and return what went wrong, if anything did.

        Raises:
            Stopped: a signal came.
            Deposed: another process has taken the run over.
        """
        path = self.folder / run_name(width, seed)
        with logging_to(log_path(path)):
            try:
                listener.obey()
                with Lease(path, while_waiting=listener.obey) as lease:
                    self._train(width, seed, lease, listener)
            except Stopped as stop:
                log(f"{path.name} stopped by {stop}; saved, the same command resumes")
                raise
            except Deposed:
                raise  # whoever has taken this run over trains the next ones too
            except UserError as error:
                log(f"{path.name} failed: {error}")
                return f"{path.name}: {error}"
            return None

    def check(self, width: int) -> None:
        """Check that the network of a width can be trained, resumed and measured.

        Raises:
            UserError: says what was seen.
        """
        check_trainable(self.settings, width=width, device=self.device, **self.sizes)

    def _train(self, width: int, seed: int, lease: Lease, listener: Listener) -> None:
        run = self._new_run(width, seed)
        identity = {
            **self.identity,
            "width": str(width),
            "seed": str(seed),
            "parameters": str(count_parameters(run.network)),
        }
        path = lease.folder
        folder = RunFolder(path, identity, self.conditions, lease)
        folder.claim()
        missing = folder.missing_snapshots(self.snapshots)
        if not missing and folder.has_history(self.snapshots, self.evaluated):
            log(f"{path.name} is finished")
            return
        self.worked = True
        folder.history.unlink(missing_ok=True)  # it would say that all is there
        folder.restore(run, folder.state)
        if not run.history:
            # Snapshots that are there may be of other code: a run that begins anew writes its own.
            missing = self.snapshots
            choose_kernels(run, self.data, self.settings, width=width, **self.sizes)
            run.conditions[0]["kernels"] = run.kernels
        self._replay(run, folder, missing, listener)
        last = self.settings.epochs
        if run.epoch < last:
            self._advance(run, folder, folder.state, last, missing, listener)
            folder.save_state(run, folder.state, finished=True)
        folder.save_history(run, self.snapshots, self.evaluated)
        folder.replay.unlink(missing_ok=True)

    def _new_run(self, width: int, seed: int) -> Run:
        return new_run(self.settings, width=width, seed=seed, device=self.device, **self.sizes)

    def _replay(self, run: Run, folder: RunFolder, missing: list[int], listener: Listener) -> None:
        """Make the snapshots and evaluations that a run has passed without.

        Weights of an earlier epoch are found by training to it again, from the beginning.
        """
        if run.epoch in missing and run.step == 0 and run.history:
            folder.save_snapshot(run)
            missing.remove(run.epoch)
        passed = self._passed(run, missing)
        if not passed:
            return
        name, end = folder.path.name, max(passed)
        log(
            f"{name}: products of epochs {', '.join(map(str, passed))} are missing; training again "
            f"from the beginning to epoch {end}; what is there is kept"
        )
        again = self._begin_again(run, folder)
        if self._passed(again, missing):
            folder.replay.unlink()
            again = self._begin_again(run, folder)
        self._advance(again, folder, folder.replay, end, missing, listener)
        run.history[: end + 1] = again.history[: end + 1]
        run.fitted |= {epoch: bits for epoch, bits in again.fitted.items() if epoch <= end}
        if self.conditions != {key: run.conditions[0].get(key) for key in self.conditions}:
            log(f"{name}: the conditions are not those of the training; its history says so")
            run.conditions.append({"trained_again": passed, **self.conditions})

    def _begin_again(self, run: Run, folder: RunFolder) -> Run:
        """Return the run at its beginning, or as far as a replay of it has come."""
        again = self._new_run(int(folder.identity["width"]), int(folder.identity["seed"]))
        again.choose_kernels(run.kernels)
        folder.restore(again, folder.replay)
        return again

    def _passed(self, run: Run, missing: list[int]) -> list[int]:
        """Return the epochs that a run has passed without a snapshot or evaluation wanted now."""
        done = [epoch for epoch in self.evaluated if epoch <= run.epoch] if run.history else []
        return [epoch for epoch in done if epoch in missing or not run.was_evaluated(epoch)]

    def _advance(
        self,
        run: Run,
        folder: RunFolder,
        state: Path,
        until: int,
        missing: list[int],
        listener: Listener,
    ) -> None:
        """Train a run to the end of an epoch, saving its state and the missing snapshots."""
        progress = self._progress(run, folder.path.name, until)

        def on_step(count: int) -> None:
            progress.advance(count)
            folder.save_if_due(run, state, listener, self.autosave_minutes)

        def on_epoch() -> None:
            if run.epoch in missing:
                folder.save_snapshot(run)
            row = run.history[-1]
            if run.diverged == run.epoch:
                log(
                    f"{folder.path.name} has diverged in epoch {run.epoch}: a loss is NaN or "
                    "infinite; it is kept as it is, and tables, figures and verdict leave it out; "
                    "a smaller optimizer.learning_rate than "
                    f"{self.settings.optimizer.learning_rate} may help"
                )
            elif run.diverged is None and run.trained_epochs == run.epoch - 1:
                log(
                    f"{folder.path.name} stops training after epoch {run.trained_epochs}: training "
                    f"loss below {self.settings.stop_below.loss} nats; later epochs are this one"
                )
            if "test_error" in row:
                log(
                    f"{folder.path.name} epoch {run.epoch}: training loss "
                    f"{row['train_loss_all']:.4f}, training accuracy "
                    f"{row['train_accuracy_all']:.4f}, test error {row['test_error']:.4f}; "
                    f"{progress.rate()}"
                )

        train(
            run,
            self.data,
            self.settings,
            seed=int(folder.identity["seed"]),
            until=until,
            evaluate_at={*self.snapshots},
            on_step=on_step,
            on_epoch=on_epoch,
        )
        progress.close()

    def _progress(self, run: Run, name: str, until: int) -> Progress:
        samples = len(self.data.labels)
        left = (until - run.epoch) * samples - run.step * self.settings.batch_size
        return Progress(left, "images", f"{name}, epochs {run.epoch + 1} to {until}")


def training_code() -> str:
    """Return a hash of the code that determines the weights."""
    package = Path(__file__).parents[1]
    modules = (
        "augmentation",
        "data",
        "engine",
        "evaluation",
        "optimizers",
        "run",
        "step",
        "stopping",
    )
    return code_digest(
        package / "randomness.py",
        package / "data" / "loading.py",
        *package.glob("networks/*.py"),
        *(path for path in package.glob("kernels/*.py") if path.name != "measuring.py"),
        *(package / "training" / f"{module}.py" for module in modules),
    )
