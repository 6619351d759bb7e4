"""A real calibration of a tiny study: what it measures, and that it foretells."""

import time

import pytest
import torch
from training.tiny import NAME, Files, tiny_study

from smoothdescent.cli import main
from smoothdescent.files import canonical_json
from smoothdescent.plan import calibration
from smoothdescent.plan.calibration import chosen_widths, timed
from smoothdescent.plan.forecast import Calibration


@pytest.mark.parametrize(
    ("widths", "chosen"),
    [
        ([3], [3]),
        ([1, 2], [1, 2]),
        (list(range(1, 65)), [1, 3, 8, 23, 64]),
        ([1, 2, 3, 4, 6, 8, 12], [1, 2, 3, 6, 12]),
    ],
)
def test_chosen_widths(widths, chosen):
    assert chosen_widths(widths) == chosen


def compute(seconds):
    """Keep the processor busy for so many seconds of its time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_timing_is_a_median_without_the_first_call(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    seconds = iter([0.2, 0.01, 0.05, 0.01])
    assert 0.01 <= timed(lambda: compute(next(seconds)), torch.device("cpu"), 0) < 0.05


def test_timing_leaves_waiting_out_where_one_thread_computes(monkeypatch):
    work, device = lambda: (time.sleep(0.1), compute(0.01)), torch.device("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert timed(work, device, 0) < 0.1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert timed(work, device, 0) >= 0.11


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [{"name": "sgd", "learning_rate": 0.01}, {"name": "adam"}])
def test_the_command(tmp_path, capsys, monkeypatch, optimizer):
    chosen = []
    choose = calibration.choose_kernels
    monkeypatch.setattr(
        calibration, "choose_kernels", lambda *a, **b: (chosen.append(b["width"]), choose(*a, **b))
    )
    changes = {"optimizer": {"learning_rate": 0.01} | optimizer, "widths": [1, 8, 64]}
    changes |= {"augmentation": {"shift": 1}} if optimizer["name"] == "adam" else {}
    study = tiny_study(**changes)
    update = {"results": str(tmp_path / "results"), "experiments": {NAME: study.experiments[NAME]}}
    study = study.model_copy(update=update)
    files = Files(tmp_path, study)
    (tmp_path / "data").mkdir()
    files.data.rename(tmp_path / "data/procedural10.safetensors")
    settings = canonical_json(study.model_dump(mode="json"))
    words = ["plan", "--settings", settings, "--data", tmp_path / "data"]
    words += ["--output", tmp_path / "costs.json", "--seconds", "0.1"]
    main([str(word) for word in words])
    assert NAME in capsys.readouterr().out
    costs = Calibration.load(tmp_path / "costs.json").experiments[NAME]
    assert chosen == costs.widths == [1, 8, 64] and costs.train_samples == 100
    assert costs.parameters == sorted(costs.parameters)
    for column in (costs.train, costs.evaluate, costs.point, costs.volumes):
        assert len(column) == 3 and min(column) > 0
    assert costs.train[2] > costs.train[0]
    # 2 volumes of 4 directions are 9 points of the 1 at volume 0.
    assert costs.volumes[2] > 3 * costs.point[2]
