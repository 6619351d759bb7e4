"""Runs that do not converge are found in made-up histories, and those that do are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smoothdescent.tables.convergence import convergence_note, unsettled_runs

EPOCHS = np.arange(0, 801, 20)
CONVERGED = 1 - 0.9 * np.exp(-EPOCHS / 100)
SWINGING = np.where(EPOCHS % 40, 0.99, 0.75)


def run(accuracy, loss, width=4, seed=0):
    columns = {"width": width, "seed": seed, "epoch": EPOCHS, "train_accuracy_all": accuracy}
    return pd.DataFrame(columns | {"train_loss_all": loss})


def test_an_oscillating_run_is_told_with_its_range():
    found = unsettled_runs(run(SWINGING, 0.5))
    assert found == {
        (4, 0): "oscillates: training accuracy 75 to 99\u00a0% over the last 200 epochs"
    }


def test_a_run_that_gets_worse_is_told_with_its_losses():
    loss = np.where(EPOCHS < 500, 2.0 - EPOCHS / 300, 2.5)
    assert unsettled_runs(run(0.5, loss)) == {
        (4, 0): "has got worse: training loss 2.5 nats late, 0.4 at epoch 480"
    }


@pytest.mark.parametrize(
    ("accuracy", "loss"),
    [
        (CONVERGED, 2 * np.exp(-EPOCHS / 100)),
        (np.linspace(0.1, 0.99, len(EPOCHS)), 1.0),  # still improves
        (np.where(EPOCHS < 600, SWINGING, 1.0), 0.1),  # did oscillate, and settled
        (0.5 + 0.02 * np.sin(EPOCHS), 1.0),  # varies a little
        (1.0, np.where(EPOCHS < 400, 1e-5, 1e-2)),  # a thousand times nothing
    ],
    ids=["converged", "improving", "settled", "steady", "tiny"],
)
def test_other_runs_are_not(accuracy, loss):
    assert unsettled_runs(run(accuracy, loss)) == {}
    assert convergence_note(run(accuracy, loss)) == ""


def test_epochs_without_an_evaluation_are_passed_over():
    history = run(SWINGING, 0.5)
    gaps = history.assign(epoch=history["epoch"] + 1, train_accuracy_all=np.nan)
    assert unsettled_runs(pd.concat([history, gaps])) == unsettled_runs(history)


def test_the_note_counts_runs_by_width_and_says_what_helps():
    runs = [run(SWINGING, 0.5, 3, 0), run(SWINGING, 0.5, 4, 0), run(SWINGING, 0.5, 4, 1)]
    note = convergence_note(pd.concat([*runs, run(CONVERGED, 0.1, 8)])).replace("\u00a0", " ")
    assert note.startswith(
        "3 of 4 runs do not converge, at w = 3 (1), 4 (2): w4_s1 oscillates: training "
        "accuracy 75 to 99 % over the last 200 epochs. What helps: "
    )
    assert "inverse_sqrt" in note
