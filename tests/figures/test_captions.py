from __future__ import annotations

import re

import pytest
from docutils.core import publish_parts
from figures.synthetic import make_experiment

from smoothdescent.figures import FIGURES
from smoothdescent.figures.captions import caption, compose, heading
from smoothdescent.verdict.statements import STATEMENTS, statements_of


@pytest.mark.parametrize("figure", [*FIGURES, "mine"])
def test_a_caption_is_sound_and_lists_the_statements_of_its_figure(figure: str) -> None:
    # A warning of the parser is an error here.
    html = publish_parts(caption(figure), writer="html", settings_overrides={"halt_level": 2})
    text = " ".join(re.sub("<[^>]+>", "", html["body"]).split())
    numbers = {number for number, _ in statements_of(figure, FIGURES.get(figure, (figure,)))}
    assert numbers
    for number, statement in STATEMENTS.items():
        words = statement.text.replace(">=", "&gt;=")
        assert (f"{number}: {words}" in text) == (number in numbers)
    assert text.startswith(f"{heading(figure)} ({figure}). ")
    assert ("The paper: " in text) == (figure in FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_caption_is_true_at_every_scale(figure: str) -> None:
    experiments = {name: make_experiment(name) for name in FIGURES[figure]}
    for experiment in experiments.values():
        experiment.config["augmentation"] = {"shift": 1, "flip": False}
        experiment.config["data"] = {"dataset": "procedural10", "train_samples": 400}
    text = compose(figure, experiments, "Verdict: statement 1 holds")
    publish_parts(text, writer="html", settings_overrides={"halt_level": 2})
    for name in FIGURES[figure]:
        line = next(line for line in text.splitlines() if line.startswith(f"- {name}: "))
        assert "procedural images" in line and "CIFAR" not in line
        assert "; 400 images of 16x16 pixels; 14 widths from 1 to 64; 3 seeds, 600 epochs" in line
        assert "shifts by up to 1 pixels without flips" in line
    own_words = text.partition("\n\n")[0]
    assert not re.search("CIFAR|flips|shifts", own_words)
    assert ("bands" in own_words) == (figure not in ("figure5", "figure8"))
    assert "Verdict: statement 1 holds:" in text
    for experiment in experiments.values():
        experiment.config["bands"] = "interval"
    intervals = compose(figure, experiments, "")
    assert ("95 % confidence intervals" in intervals) == ("bands one standard" in text)


def test_headings_differ() -> None:
    assert len({heading(figure) for figure in [*FIGURES, "mine"]}) == len(FIGURES) + 1
