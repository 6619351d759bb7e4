"""The training loop: data in memory, no host synchronisation inside an epoch.

Everything random about an epoch is derived from (seed, purpose, epoch), so a run resumes in the
middle of an epoch by skipping the batches already done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from smoothdescent.config.schema import Experiment
from smoothdescent.errors import UserError
from smoothdescent.randomness import generator
from smoothdescent.training.augmentation import crop, draw_crops
from smoothdescent.training.evaluation import evaluate
from smoothdescent.training.optimizers import learning_rate
from smoothdescent.training.run import Run


@dataclass(frozen=True)
class TrainingData:
    """What a run is trained and evaluated on, on one device.

    Attributes:
        images: normalised training images, float32 [N, H, W, C].
        labels: labels trained on, int64 [N].
        is_noisy: whether the label was replaced, bool [N].
        sample_ids: int64 [N]; augmentation is drawn by them.
        padded: the training images surrounded with black by the augmentation's shift (see
            `augmentation.pad`), if there is an augmentation.
        test_images, test_labels: the test set, float32 [T, H, W, C] and int64 [T].
        corrupted_classes: bool [classes] with asymmetric label noise, else None.
    """

    images: torch.Tensor
    labels: torch.Tensor
    is_noisy: torch.Tensor
    sample_ids: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    corrupted_classes: torch.Tensor | None
    padded: torch.Tensor | None = None


def train(
    run: Run,
    data: TrainingData,
    experiment: Experiment,
    *,
    seed: int,
    until: int,
    evaluate_at: set[int],
    on_step: Callable[[int], None] = lambda samples: None,
    on_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Train a run until the end of an epoch.

    Args:
        run: changed in place.
        data: on the run's device.
        experiment: the settings of the training.
        seed: the training seed; it fixes the order of the samples and their augmentation in every
            epoch.
        until: the last epoch to complete.
        evaluate_at: epochs with an exact evaluation, beside every `evaluate_every`-th.
        on_step: called after each step with the number of samples in it; it may raise, and the
            run can be saved there.
        on_epoch: called after each epoch, and for an untrained network before the first.

    Raises:
        UserError: the loss has become NaN or infinite.
    """
    if run.epoch == 0 and run.step == 0 and not run.history:
        run.history.append({"epoch": 0, **evaluation_row(run, data)})
        on_epoch()
    while run.epoch < until:
        _train_epoch(run, data, experiment, seed, on_step)
        steps = -(-len(data.labels) // experiment.batch_size)
        loss, correct = (run.running / len(data.labels)).tolist()
        if not torch.isfinite(run.running).all():
            raise UserError(
                f"the training loss is {loss} in epoch {run.epoch + 1}: the training has diverged; "
                f"try a smaller optimizer.learning_rate than {experiment.optimizer.learning_rate}"
            )
        run.running.zero_()
        run.epoch, run.step = run.epoch + 1, 0
        row = {
            "epoch": run.epoch,
            "learning_rate": learning_rate(experiment.optimizer, run.epoch * steps - 1, steps),
            "train_loss": loss,
            "train_accuracy": correct,
        }
        if run.epoch % experiment.evaluate_every == 0 or run.epoch in evaluate_at:
            row |= evaluation_row(run, data)
        run.history.append(row)
        on_epoch()


def _train_epoch(
    run: Run,
    data: TrainingData,
    experiment: Experiment,
    seed: int,
    on_step: Callable[[int], None],
) -> None:
    """Do what is left of the current epoch."""
    order = torch.randperm(len(data.labels), generator=generator(seed, "shuffle", run.epoch))
    batches = order.to(data.labels.device).split(experiment.batch_size)
    first_step = run.epoch * len(batches)
    network, optimizer = run.network, run.optimizer
    inputs = _inputs(data, experiment, seed, run.epoch)
    for batch in batches[run.step :]:
        rate = learning_rate(experiment.optimizer, first_step + run.step, len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels = data.labels.index_select(0, batch)
        logits = network(inputs(batch))
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.running[0] += loss.detach() * len(batch)
        run.running[1] += (logits.detach().argmax(1) == labels).sum()
        run.step += 1
        on_step(len(batch))


def _inputs(
    data: TrainingData, experiment: Experiment, seed: int, epoch: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from positions [B] to their images [B, C, H, W] in this epoch."""
    settings = experiment.augmentation
    if settings is None:
        return lambda batch: data.images.index_select(0, batch).permute(0, 3, 1, 2)
    crops = draw_crops(seed, epoch, data.sample_ids, **settings.model_dump())
    return lambda batch: crop(data.padded, batch, crops, settings.shift).permute(0, 3, 1, 2)


def evaluation_row(run: Run, data: TrainingData) -> dict[str, float]:
    """Return the history's evaluation columns for the run's present weights.

    A mean over no samples (the noisy ones of an experiment without noise) is left out.
    """
    losses, correct = evaluate(run.network, data.images, data.labels)
    row = {}
    everything = torch.ones_like(data.is_noisy)
    for name, chosen in (("all", everything), ("clean", ~data.is_noisy), ("noisy", data.is_noisy)):
        if chosen.any():
            row[f"train_loss_{name}"] = losses[chosen].mean().item()
            row[f"train_accuracy_{name}"] = correct[chosen].double().mean().item()
    losses, correct = evaluate(run.network, data.test_images, data.test_labels)
    row["test_loss"] = losses.mean().item()
    row["test_error"] = 1.0 - correct.double().mean().item()
    if data.corrupted_classes is not None:
        corrupted = data.corrupted_classes[data.test_labels]
        for name, chosen in (("corrupted", corrupted), ("unperturbed", ~corrupted)):
            if chosen.any():
                row[f"test_error_{name}"] = 1.0 - correct[chosen].double().mean().item()
    return row
