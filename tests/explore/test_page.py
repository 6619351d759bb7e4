"""The interactive page, as its readers see it."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from figures.synthetic import WIDTHS, make_experiment, write_experiment

from smoothdescent.cli import main
from smoothdescent.explore.content import content
from smoothdescent.tables.experiment import final_volumes

NAME = "convnet-cifar10-noise20"
PLOTTED = (
    "id => document.getElementById(id).data.filter(t => t.hoverinfo !== 'skip').map(t => t.name)"
)


def test_the_numbers_are_those_of_the_tables():
    experiment = make_experiment()
    shown = content(experiment)
    json.dumps(shown, allow_nan=False)
    [curve] = [
        c
        for c in shown["final"]
        if (c["measure"], c["subset"], c["volume"]) == ("jacobian_norm", "noisy", 3)
    ]
    rows = final_volumes(experiment, "jacobian_norm", "noisy")
    rows = rows[rows["volume"] == 3]
    assert curve["x"] == WIDTHS
    np.testing.assert_allclose(curve["y"], rows["mean"], rtol=1e-3)
    np.testing.assert_allclose(curve["std"], rows["std"], rtol=1e-3)
    assert curve["seeds"] == [3] * len(WIDTHS)
    assert shown["threshold"] == experiment.threshold == 7
    [course] = [
        c
        for c in shown["courses"]
        if (c["measure"], c["subset"], c["width"]) == ("test_error", "all", 64)
    ]
    evaluated = experiment.history.dropna(subset=["test_error"])
    last = evaluated[(evaluated["width"] == 64) & (evaluated["epoch"] == course["x"][-1])]
    assert course["y"][-1] == pytest.approx(100 * last["test_error"].mean(), rel=1e-3)


def test_runs_that_diverge_are_named():
    experiment = make_experiment()
    history = experiment.history.assign(diverged=False)
    lost = (history["width"] == 3) & (history["seed"] == 1) & (history["epoch"] >= 20)
    history.loc[lost, "diverged"] = True
    history.loc[lost, ["train_accuracy_all", "test_error"]] = np.nan
    [note] = content(replace(experiment, history=history))["notes"]
    assert note.startswith("1 of 42 runs do not converge") and "w3_s1 diverged in epoch 20" in note


def test_a_folder_may_have_another_name_than_its_experiment(tmp_path):
    folder = write_experiment(tmp_path, NAME).rename(tmp_path / "copy")
    output = tmp_path / "explore.html"
    main(["explore", "--tables", str(folder), "--data", str(tmp_path), "--output", str(output)])
    assert f'"galleries": {{"{NAME}": null}}' in output.read_text()


def test_the_page_is_one_file_with_the_library_once(page_file):
    text = page_file.read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.(?!data:)", text.split("<script>")[0])
    assert text.count("plotly.js v") == 1
    assert "@CONTENT@" not in text and "@SCRIPT@" not in text


@pytest.mark.browser
def test_choosing(page_file, open_page):
    page = open_page(page_file)
    assert page.evaluate(PLOTTED, "plot") == ["volume 0"], "test error, at first"
    page.select_option("#measure", "jacobian_norm")
    names = page.evaluate(PLOTTED, "plot")
    assert len(names) == 7 and names[0] == "volume 6"
    assert page.evaluate("document.getElementById('plot').layout.shapes[0].x0") == 7
    page.select_option("#subset", "noisy")
    page.select_option("#axis", "log")
    assert page.evaluate("document.getElementById('plot').layout.yaxis.type") == "log"
    page.select_option("#x", "epoch")
    names = page.evaluate(PLOTTED, "plot")
    assert names == [f"w = {w}" + " (threshold)" * (w == 7) for w in WIDTHS]
    page.select_option("#experiment", "convnet-cifar100")
    assert page.evaluate("document.getElementById('subset').value") == "all", "no noise there"
    assert "ConvNet, CIFAR-100" in page.inner_text("#about")
    page.select_option("#run_width", "8")
    assert len(page.evaluate(PLOTTED, "runs")) == 3, "one line for each seed"
    assert page.faults == []


@pytest.mark.browser
def test_a_link_keeps_the_choice(page_file, open_page):
    page = open_page(page_file)
    page.select_option("#measure", "hessian_norm")
    page.select_option("#volume", "2")
    page.click("tr[data-finding='1']")
    address = page.evaluate("location.hash")
    again = open_page(page_file, address)
    assert again.evaluate(PLOTTED, "plot") == ["volume 2"]
    assert again.inner_text("#volume option:checked") == "volume 2, 4 singular values erased"
    assert again.is_visible("#decides")
    drawn = "Jacobian norm at the training points (nats per unit input)"
    assert again.inner_text("#drawn") == drawn, "not the peak's height, which is a ratio"
    assert again.inner_text("#why").startswith(f"2, {NAME}: ")
    assert page.faults == again.faults == []


@pytest.mark.browser
def test_on_a_phone(page_file, open_page):
    page = open_page(page_file, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.getElementById('plot').getBoundingClientRect().width") > 340
    page.mouse.move(1, 1)
    assert page.faults == []


@pytest.mark.slow
@pytest.mark.browser
def test_the_gallery_of_a_study(finished_study, open_page):
    page = open_page(finished_study.results.parent / "explore.html")
    page.locator("#images").scroll_into_view_if_needed()
    sizes = page.evaluate("[...document.querySelectorAll('#images img')].map(i => i.naturalWidth)")
    # Eight images are measured: four are the sharpest. Each is shown with its augmentations.
    measured = finished_study.config["scales"]["demo"]["defaults"]["measure"]
    assert sizes == [16] * 8 * (1 + len(measured["paths"]["strengths"]))
    captions = page.locator(".card p").all_inner_texts()
    norms = [float(text.rpartition(" ")[2]) for text in captions]
    assert max(norms[4:]) <= min(norms[:4])
    assert (
        page.evaluate("[...document.querySelectorAll('.card .plot')].map(p => p.data.length)")
        == [2] * 8
    )
    assert page.faults == []
