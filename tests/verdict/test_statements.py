"""Every statement holds where it is true, fails where it is false, and says when it cannot tell."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from verdict.studies import (
    EPOCHS,
    SEEDS,
    THRESHOLD,
    WIDTHS,
    accuracy,
    bump,
    diverge,
    loss,
    make_study,
    over_epochs,
    sharp,
    test_error,
)

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve
from smoothdescent.verdict.evidence import FAILS, HOLDS, UNDECIDED
from smoothdescent.verdict.findings import Finding, decide_all, decide_one
from smoothdescent.verdict.statement import ALL, ASYMMETRIC, CIFAR100, CONVNET, RESNET
from smoothdescent.verdict.statements import STATEMENTS
from smoothdescent.verdict.statements.s13_error_follows_jacobian import first_minimum

test_error.__test__ = False  # a curve, no test
PAPER = {
    "network": "convnet",
    "data": {"dataset": "cifar10", "validation": 1000, "image_size": None, "train_samples": None},
    "epochs": 4000,
}


def decide(number: int, experiment: ExperimentTables) -> Finding:
    name = next(iter(STATEMENTS[number].figures))
    return decide_one(number, name, replace(experiment, name=name))


def falling(width: float, *_: object) -> float:
    return 3.0 / (1 + np.log2(width))


def scaled(curve, at, factor):
    """Return a curve with one volume or subset multiplied."""
    return lambda width, volume, subset: (
        curve(width, volume, subset) * (factor if at in (volume, subset) else 1.0)
    )


def drop_at_the_end(width, volume, subset):
    return accuracy(width, volume, subset) - (0.1 if (width, volume) == (32, 1) else 0.0)


def flat_loss(width, volume, subset):
    return 0.5 if volume == 0 else loss(width, volume, subset)


def fits_noise_too(width, volume, subset):
    return accuracy(width, volume, "clean")


def no_course(width, time):
    return 1 + (1 - time)


def everywhere_course(width, time):
    return 1 + 3 * bump(1 + time, 1.5, 0.1) + (1 - time)


def tame(width, volume, subset):
    """Sharpness that does not grow with the volume."""
    return sharp(width, 0, subset)


def late_error(width):
    return 0.6 - 0.05 * np.log2(width) + 0.2 * bump(width, 12, 0.2)


CASES = {
    1: ({}, {"error": lambda w: falling(w) / 5}),
    2: ({}, {"hessian": falling}),
    3: ({}, {"jacobian": lambda w, v, s: falling(w) if v == 2 else sharp(w, v, s)}),
    4: ({}, {"jacobian": scaled(sharp, "noisy", 0.2)}),
    5: ({}, {"fitted": drop_at_the_end}),
    6: ({}, {"crossentropy": flat_loss}),
    7: ({}, {"fitted": fits_noise_too}),
    8: ({}, {"course": no_course}),
    9: ({}, {"error": late_error}),
    10: ({}, {"crossentropy": lambda w, v, s: loss(w, 0, s)}),
    11: ({"corrupted": lambda w: 0.9 - 0.05 * np.log2(w)}, {"corrupted": test_error}),
    12: (
        {"widths": [*range(10, 21)], "threshold": 15, "config": PAPER},
        {"widths": [*range(10, 21)], "threshold": 18, "config": PAPER},
    ),
    13: ({}, {"jacobian": lambda w, v, s: 1 / sharp(w, v, s)}),
    14: ({}, {"jacobian": tame, "hessian": scaled(tame, 2, 0.5)}),
    15: (
        {"config": {"data": {"dataset": "cifar100", "validation": 0}}},
        {"config": {"data": {"dataset": "it", "train_samples": 50, "image_size": 8}}},
    ),
}


@pytest.mark.parametrize("number", STATEMENTS)
def test_holds_where_it_is_true(number):
    finding = decide(number, make_study(**CASES[number][0]))
    assert finding.result == HOLDS, finding.reason
    assert math.isfinite(finding.value)
    assert finding.low - 1e-9 <= finding.value <= finding.high + 1e-9
    assert finding.reason.endswith(".")
    assert bool(finding.curve_label) == bool(finding.curve_x)


@pytest.mark.parametrize("number", STATEMENTS)
def test_fails_where_it_is_false(number):
    finding = decide(number, make_study(**CASES[number][1]))
    assert finding.result == FAILS, finding.reason
    assert math.isfinite(finding.value)


@pytest.mark.parametrize(
    ("number", "label"),
    [
        (1, "Test error (%)"),
        (2, "Hessian norm at the training points (nats per unit input)"),
        (4, "Jacobian norm at the training points, noisy samples (nats per unit input)"),
        (7, "Accuracy at the training points, noisy samples (%)"),
        (8, "Test error over epochs, height of the peak (percentage points)"),
        (14, "Hessian norm over volume 2 (nats per unit input)"),
    ],
)
def test_the_curve_is_named_for_what_it_shows(number, label):
    assert decide(number, make_study(**CASES[number][1])).curve_label == label


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (8, {"course": everywhere_course}),  # below the threshold as well
        (11, {"error": lambda w: falling(w) / 5, "corrupted": lambda w: 0.9}),  # on neither
        (14, {"jacobian": falling}),  # no peak over the largest volume
        (10, {"fitted": drop_at_the_end}),
        (9, {"course": no_course}),
    ],
)
def test_fails_if_a_part_is_false(number, changes):
    assert decide(number, make_study(**changes)).result == FAILS


@pytest.mark.parametrize("number", STATEMENTS)
def test_one_seed_is_undecided(number):
    finding = decide(number, make_study(**CASES[number][0] | {"seeds": (0,)}))
    assert finding.result == UNDECIDED
    assert "seed" in finding.reason
    assert math.isnan(finding.low) and math.isnan(finding.high)


@pytest.mark.parametrize("number", sorted({*STATEMENTS} - {15}))
def test_no_interpolating_width_is_undecided(number):
    finding = decide(number, make_study(**CASES[number][0] | {"threshold": 1000}))
    assert finding.result == UNDECIDED
    assert "No width interpolates (highest training accuracy 90" in finding.reason


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 8, 9, 10, 13, 14])
@pytest.mark.parametrize(("threshold", "sides"), [(1, "0 below"), (32, "0 above")])
def test_too_few_widths_beside_the_threshold(number, threshold, sides):
    finding = decide(number, make_study(threshold=threshold))
    assert finding.result == UNDECIDED
    assert sides in finding.reason


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_one_width_beyond_the_threshold_is_enough(number):
    widths = [1, 2, 3, 4, 5, 6, 8, 16]
    assert decide(number, make_study(widths=widths)).result == HOLDS


def test_a_part_that_cannot_be_told_hides_no_other():
    study = make_study(hessian=falling)
    lost = study.sharpness.assign(jacobian_norm=np.nan)
    finding = decide(2, replace(study, sharpness=lost))
    assert finding.result == FAILS
    assert finding.reason.startswith("Of 2 tests 1 fails, 1 undecided. Hessian norm")
    held = replace(make_study(), sharpness=make_study().sharpness.assign(jacobian_norm=np.nan))
    assert decide(2, held).result == UNDECIDED


def test_too_few_widths_for_the_rest():
    finding = decide(7, make_study(threshold=2))
    assert finding.result == UNDECIDED
    assert "no width lies below half" in finding.reason.lower()
    finding = decide(13, make_study(widths=[1, 2, 8, 10, 12]))
    assert finding.result == UNDECIDED
    assert "at least 5" in finding.reason


def test_noise_is_undecided_or_fails_but_never_holds():
    flat = {"error": lambda w: 0.3, "jacobian": lambda *_: 1.0, "hessian": lambda *_: 1.0}
    flat["crossentropy"] = lambda *_: 1.0
    flat["course"] = no_course
    for draw in range(3):
        study = make_study(noise=0.2, draw=draw, **flat)
        for number in (1, 2, 3, 4, 6, 8, 9, 10, 14):
            assert decide(number, study).result != HOLDS
        finding = decide(15, replace(study, config=PAPER))
        assert finding.result == UNDECIDED
        assert 0 < finding.low <= finding.value <= finding.high < 0.1


def test_correlation_of_noise_does_not_pass():
    held = 0
    for draw in range(40):
        study = make_study(noise=0.2, draw=draw, error=lambda w: 0.3, jacobian=lambda *_: 1.0)
        # Every run's Jacobian norm follows its own test error, no width differs from another.
        last = study.history[study.history["epoch"] == EPOCHS[-1]]
        errors = last.set_index(["width", "seed"])["test_error"]
        table = study.sharpness
        norms = errors.reindex(pd.MultiIndex.from_frame(table[["width", "seed"]])).to_numpy()
        study = replace(study, sharpness=table.assign(jacobian_norm=norms))
        finding = decide(13, study)
        assert finding.value == pytest.approx(1.0)
        held += finding.result == HOLDS
    assert held <= 4


def test_noisy_labels_are_needed():
    study = make_study()
    study = replace(study, sharpness=study.sharpness[study.sharpness["subset"] == "all"])
    for number in (4, 7):
        finding = decide(number, study)
        assert finding.result == UNDECIDED
        assert "no noisy samples" in finding.reason


def test_few_noisy_samples_widen_the_interval():
    def of(samples: int) -> Finding:
        study = make_study(noise=0.001)
        return decide(7, replace(study, sharpness=study.sharpness.assign(samples=samples)))

    assert of(100_000).result == HOLDS
    assert of(10).result == UNDECIDED


@pytest.mark.parametrize(
    ("number", "column"),
    [
        (1, "test_error"),
        (8, "test_error"),
        (11, "test_error_corrupted"),
        (2, "hessian_norm"),
        (15, "parameters"),
    ],
)
def test_absent_columns(number, column):
    study = make_study(**CASES[number][0])
    study = replace(
        study,
        history=study.history.drop(columns=column, errors="ignore"),
        sharpness=study.sharpness.drop(columns=column, errors="ignore"),
    )
    finding = decide(number, study)
    assert finding.result == UNDECIDED
    assert repr(column) in finding.reason


def test_a_norm_of_zero_is_not_compared_as_a_ratio():
    study = make_study(noise=0.001, jacobian=lambda w, v, s: 0.0 if w == 1 else sharp(w, v, s))
    finding = decide(2, study)
    assert finding.result == HOLDS
    study = make_study(jacobian=lambda w, v, s: 0.0 if w > THRESHOLD else 1.0)
    finding = decide(2, study)
    assert (finding.result, finding.unit) == (FAILS, "units")


def test_no_volumes():
    study = make_study()
    study = replace(study, sharpness=study.sharpness[study.sharpness["volume"] == 0])
    for number in (3, 6, 14):
        assert "no volume but 0" in decide(number, study).reason
    assert decide(2, study).result == HOLDS


def test_no_snapshots_for_a_course():
    study = make_study()
    table = study.sharpness
    finding = decide(8, replace(study, sharpness=table[table["epoch"].isin([0, EPOCHS[-1]])]))
    assert finding.result == UNDECIDED
    assert "fewer than three epochs" in finding.reason.lower()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 120}, "4000 epochs (here 120)"),
        ({"data": PAPER["data"] | {"train_samples": 3000}}, "49000 training samples (here 3000)"),
        ({"data": PAPER["data"] | {"image_size": 16}}, "32 pixels (here 16)"),
        ({"data": {"dataset": "procedural10"}}, "data cifar10 (here procedural10)"),
    ],
)
def test_thresholds_need_the_papers_scale(change, words):
    finding = decide(12, make_study(threshold=16, config=PAPER | change))
    assert finding.result == UNDECIDED
    assert words in finding.reason


def test_one_width_has_no_step_of_the_grid():
    finding = decide(12, make_study(widths=[15], threshold=15, config=PAPER))
    assert (finding.result, finding.reason) == (UNDECIDED, "One width, at least 2 are needed.")


def test_thresholds_of_both_families():
    study = make_study(widths=[*range(10, 25)], threshold=18, config=PAPER)
    assert decide_one(12, CONVNET, study).result == FAILS
    study = replace(study, config=PAPER | {"network": "resnet18"})
    finding = decide_one(12, RESNET, study)
    assert finding.result == HOLDS
    assert (finding.value, finding.low, finding.high) == (18, 18, 18)


def test_parameters_without_a_peak_or_a_size():
    study = make_study(jacobian=falling, config=PAPER)
    assert decide(15, study).result == UNDECIDED
    finding = decide(15, make_study())
    assert finding.result == UNDECIDED
    assert "not known" in finding.reason
    # A number that is stored counts for more than a name.
    for name in ("own", "cifar10"):
        data = {"dataset": name, "validation": 10}
        config = {"data": data, "dataset": {"train": 5010, "size": 20}}
        finding = decide(15, make_study(config=config))
        assert finding.value == pytest.approx(100 * THRESHOLD**2 / (5000 * 3 * 400))


@pytest.mark.parametrize(
    ("odd", "like", "words"),
    [(12, 1, "past the threshold: 5 of 6 peak"), (4, 12, "below the threshold: 1 of 6 peak")],
)
def test_the_weakest_share_is_the_one_with_the_odd_width(odd, like, words):
    def course(width, time):
        return over_epochs(like if width == odd else width, time)

    finding = decide(8, make_study(course=course))
    assert finding.result == HOLDS
    assert f"weakest: Test error over epochs, widths {words}" in finding.reason


def test_a_missing_run_is_left_out():
    study = make_study()
    lost = [frame[~((frame["width"] == 5) & (frame["seed"] == 1))] for frame in
            (study.history, study.sharpness)]  # fmt: skip
    study = replace(study, history=lost[0], sharpness=lost[1])
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        assert decide(number, study).result == HOLDS, number
    assert "missing" in decide(13, study).reason


@pytest.mark.parametrize("epoch", [EPOCHS[1], EPOCHS[4]])
@pytest.mark.parametrize("seeds", [SEEDS[:1], SEEDS])
def test_a_width_whose_runs_all_diverge_is_left_out(seeds, epoch):
    study = make_study(seeds=seeds, corrupted=lambda w: 0.9)
    for width in WIDTHS:
        diverged = diverge(study, width, epoch)
        for number in STATEMENTS:
            finding = decide(number, diverged)
            assert width not in finding.curve_x, (number, width)


def test_clean_samples_first_needs_a_width_that_has_not_diverged():
    study = make_study()
    for width in WIDTHS[:3]:
        study = diverge(study, width, 1)
    finding = decide(7, study)
    assert finding.result == UNDECIDED
    assert finding.reason == "No width below half the threshold w = 8 has values."


def test_decide_all_covers_every_statement_and_experiment():
    own = make_study("my-own", seeds=SEEDS[:2])
    findings = decide_all({CONVNET: make_study(), "my-own": own})
    pairs = [(finding.number, finding.experiment) for finding in findings]
    assert len(set(pairs)) == len(pairs)
    assert {number for number, _ in pairs} == set(range(1, 16))
    assert {number for number, name in pairs if name == "my-own"} == {*range(1, 9), 13, 15}
    for name in (CIFAR100, RESNET, ASYMMETRIC):
        of_name = [finding for finding in findings if finding.experiment == name]
        assert of_name
        for finding in of_name:
            assert finding.result == UNDECIDED
            assert finding.reason == f"The tables of {name} are not given."
    assert {finding.result for finding in findings} <= {HOLDS, FAILS, UNDECIDED}


def test_figures_of_a_statement():
    assert [STATEMENTS[15].figures[name] for name in ALL] == [
        ("figure2",), ("figure4",), ("figure6",), ("figure7",),
    ]  # fmt: skip
    assert STATEMENTS[6].figures == {CONVNET: ("figure2", "figure3")}
    for statement in STATEMENTS.values():
        assert set(statement.figures) <= set(ALL) and all(statement.figures.values())


def test_the_first_minimum_is_the_one_before_the_noise_supports_a_rise():
    x = np.arange(6)
    error = np.array([6.0, 4.0, 5.0, 3.0, 2.0, 1.0])
    small = error[:, None] + np.array([-0.1, 0.0, 0.1])
    assert first_minimum(Curve.of(x, small)) == 1
    assert first_minimum(Curve.of(x, error[:, None] + np.array([-2.0, 0.0, 2.0]))) == 0
    assert first_minimum(Curve.of(x, np.sort(small, axis=0)[::-1])) == 0
    found = [
        first_minimum(Curve.of(x, error[:, None] + 0.1 * random.standard_normal((6, 3))))
        for random in map(np.random.default_rng, range(50))
    ]
    assert found.count(1) >= 49


@pytest.mark.parametrize(("classes", "result"), [(10, HOLDS), (20, UNDECIDED), (40, FAILS)])
def test_a_guess_is_one_of_the_experiments_classes(classes, result):
    def fitted(width, volume, subset):
        noisy = subset == "noisy" and width < THRESHOLD / 2
        return 0.05 if noisy else accuracy(width, volume, subset)

    config = {"dataset": {"classes": classes}}
    assert decide(7, make_study(fitted=fitted, noise=0.001, config=config)).result == result
    assert "not known" in decide(7, make_study(config={"data": {"dataset": "own"}})).reason


def test_the_size_of_procedural_images_is_known():
    config = PAPER | {"data": {"dataset": "drawn"}, "dataset": {"size": 16, "train": 2000}}
    assert "images of 32 pixels (here 16)" in decide(12, make_study(config=config)).reason
