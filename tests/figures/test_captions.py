from __future__ import annotations

import re

import pytest
from docutils.core import publish_parts

from smoothdescent.figures import FIGURES
from smoothdescent.figures.captions import caption, heading
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


def test_headings_differ() -> None:
    assert len({heading(figure) for figure in [*FIGURES, "mine"]}) == len(FIGURES) + 1
