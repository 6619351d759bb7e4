"""The training loop: data in memory, no host synchronisation inside an epoch.

Everything random about an epoch is derived from (seed, purpose, epoch), so a run resumes in the
middle of an epoch by skipping the batches already done.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from smoothdescent.config.schema import Training
from smoothdescent.devices import tf32
from smoothdescent.randomness import generator
from smoothdescent.training.data import TrainingData
from smoothdescent.training.evaluation import evaluate
from smoothdescent.training.optimizers import learning_rate
from smoothdescent.training.run import Run
from smoothdescent.training.step import Step, own_stream
from smoothdescent.training.stopping import standing_row, stop_epoch


def train(
    run: Run,
    data: TrainingData,
    settings: Training,
    *,
    seed: int,
    until: int,
    evaluate_at: set[int],
    on_step: Callable[[int], None] = lambda samples: None,
    on_epoch: Callable[[], None] = lambda: None,
    step: Step | None = None,
) -> None:
    """Train a run until the end of an epoch; one that has stopped (`stop_below`) passes it by.

    So does one that has diverged: its weights stay, and its history has no values from there on.

    Args:
        run: changed in place.
        data: on the run's device.
        settings: those of the training.
        seed: the training seed; it fixes the order of the samples and their augmentation in every
            epoch.
        until: the last epoch to complete.
        evaluate_at: epochs with an exact evaluation, beside every `evaluate_every`-th.
        on_step: called after each step with the number of samples in it; it may raise, and the
            run can be saved there.
        on_epoch: called after each epoch, and for an untrained network before the first.
        step: that of an earlier call for the same run and data, whose graphs are used again.
    """
    with own_stream(data.labels.device):
        if run.epoch == 0 and run.step == 0 and not run.history:
            row, run.fitted[0] = evaluation_row(run, data)
            run.history.append({"epoch": 0, **row})
            on_epoch()
        step = step or Step(run, data, settings)
        while run.epoch < until:
            stopped = stop_epoch(run.history, settings)
            if run.diverged is not None:
                run.epoch += 1
                run.history.append({"epoch": run.epoch})
            elif stopped is None:
                _train_epoch(run, step, settings, seed, on_step)
                run.history.append(_end_epoch(run, data, settings, evaluate_at))
            else:
                run.epoch += 1
                evaluated = _is_evaluated(run.epoch, settings, evaluate_at)
                run.history.append(standing_row(run.history, stopped, evaluated))
                if evaluated:
                    run.fitted[run.epoch] = run.fitted[stopped]
            on_epoch()


def _is_evaluated(epoch: int, settings: Training, evaluate_at: set[int]) -> bool:
    return epoch % settings.evaluate_every == 0 or epoch in evaluate_at


def _end_epoch(
    run: Run, data: TrainingData, settings: Training, evaluate_at: set[int]
) -> dict[str, float]:
    """Count an epoch as completed and return its row of the history.

    A run whose losses are not finite has diverged: its row has no values.
    """
    samples = len(data.labels)
    loss, correct = (run.running / samples).tolist()
    run.running.zero_()
    run.epoch, run.step = run.epoch + 1, 0
    steps = -(-samples // settings.batch_size)
    row = {
        "epoch": run.epoch,
        "learning_rate": learning_rate(settings.optimizer, run.epoch * steps - 1, steps),
        "train_loss": loss,
        "train_accuracy": correct,
    }
    fitted = {}
    if math.isfinite(loss) and _is_evaluated(run.epoch, settings, evaluate_at):
        evaluation, fitted[run.epoch] = evaluation_row(run, data)
        row |= evaluation
    if not all(map(math.isfinite, row.values())):
        return {"epoch": run.epoch}
    run.fitted |= fitted
    return row


def _train_epoch(
    run: Run,
    step: Step,
    settings: Training,
    seed: int,
    on_step: Callable[[int], None],
) -> None:
    """Do what is left of the current epoch."""
    labels = step.data.labels
    # Drawn on the CPU, so that the order is the same on every device.
    order = torch.randperm(len(labels), generator=generator(seed, "shuffle", run.epoch))
    batches = order.to(labels.device).split(settings.batch_size)
    first_step = run.epoch * len(batches)
    step.start_epoch(seed, run.epoch)
    for batch in batches[run.step :]:
        step(batch, learning_rate(settings.optimizer, first_step + run.step, len(batches)))
        run.step += 1
        on_step(len(batch))


def evaluation_row(run: Run, data: TrainingData) -> tuple[dict[str, float], torch.Tensor]:
    """Return the history's evaluation columns for the run's present weights, and whom they fit.

    A mean over no samples (the noisy ones of an experiment without noise) is left out. Whether each
    training sample is predicted as its label are packed bits (see `Run.fitted`).
    """
    with tf32(False):
        losses, correct = evaluate(run.network, data.images, data.labels)
        test_losses, test_correct = evaluate(run.network, data.test_images, data.test_labels)
    row = {}
    everything = torch.ones_like(data.is_noisy)
    for name, chosen in (("all", everything), ("clean", ~data.is_noisy), ("noisy", data.is_noisy)):
        if chosen.any():
            row[f"train_loss_{name}"] = losses[chosen].mean().item()
            row[f"train_accuracy_{name}"] = correct[chosen].double().mean().item()
    row["test_loss"] = test_losses.mean().item()
    row["test_error"] = 1.0 - test_correct.double().mean().item()
    if data.corrupted_classes is not None:
        corrupted = data.corrupted_classes[data.test_labels]
        for name, chosen in (("corrupted", corrupted), ("unperturbed", ~corrupted)):
            if chosen.any():
                row[f"test_error_{name}"] = 1.0 - test_correct[chosen].double().mean().item()
    return row, torch.from_numpy(np.packbits(correct.cpu().numpy()))
