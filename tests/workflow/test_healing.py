"""Every kind of product deleted, truncated or replaced: the plain command makes it again.

The results are identical, and the jobs that run are those that depend on what was damaged.
"""

import shutil

import pandas as pd
import pytest
from training.tiny import contents
from workflow.study import Study

from smoothdescent.files import read_table

pytestmark = pytest.mark.slow

GATHERED = {"gather_tables": 1, "draw_figure": 1, "decide_verdict": 1, "explore": 1, "all": 1}
MEASURED = {"measure": 1, **GATHERED}
TRAINED = {"train": 1, **MEASURED}
LABELLED = {"make_labels": 1, **GATHERED, "train": 2, "measure": 2}

# Products in the experiment's folder, what is copied over each, and the jobs that follow.
KINDS = {
    "data": ({"../data/procedural10.safetensors": None}, {"prepare_data": 1, **LABELLED}),
    "labels": ({"labels.parquet": "runs/w1_s0/history.parquet"}, LABELLED),
    "snapshot": ({"runs/w1_s0/snapshots/e1.safetensors": "e0.safetensors"}, TRAINED),
    "history and last snapshot": (
        {
            "runs/w1_s0/history.parquet": "../w1_s1/history.parquet",
            "runs/w1_s0/snapshots/e2.safetensors": "../../w1_s1/snapshots/e2.safetensors",
        },
        TRAINED,
    ),
    "checkpoint": ({"runs/w1_s0/sharpness/e2.parquet": "e1.parquet"}, MEASURED),
    "experiment's table": ({"sharpness.parquet": "history.parquet"}, GATHERED),
    "samples": ({"samples.parquet": "sharpness.parquet"}, GATHERED),
    "figure and verdict": (
        {"../figures/figure4.png": None, "../verdict.parquet": None},
        {"draw_figure": 1, "decide_verdict": 1, "explore": 1, "all": 1},
    ),
}


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """Two runs of three checkpoints, finished."""
    study = Study(tmp_path_factory.mktemp("healthy"), "convnet-cifar100")
    study.set(widths=[1], seeds=[0, 1], epochs=2, data={"dataset": "procedural10"})
    study.run()
    return study


def damage(study, kind, way):
    """Delete, truncate or replace the products of a kind."""
    for name, other in KINDS[kind][0].items():
        path = study.results / name
        if way == "delete":
            path.unlink()
        elif way == "truncate":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            shutil.copy(path.parent / other, path)


def repair(study, kind, healthy):
    """Put the products of a kind back as they were, their dates included."""
    for name in KINDS[kind][0]:
        shutil.copy2(healthy.results / name, study.results / name)


def kinds(way):
    """Return the kinds of products that can be damaged in a way."""
    if way != "replace":
        return list(KINDS)
    return [kind for kind, (products, _) in KINDS.items() if all(products.values())]


@pytest.mark.parametrize("way", ["delete", "truncate", "replace"])
def test_the_plain_command_heals(small_study, tmp_path, way):
    study = small_study.copy_with_results(tmp_path / "copy")
    for kind in kinds(way):
        damage(study, kind, way)
        printed = study.run("--dry-run")
        assert study.counted(printed) == KINDS[kind][1], kind
        assert way == "delete" or "it will be made again" in printed, kind
        repair(study, kind, small_study)
    assert study.jobs() == {}
    # All at once but data and labels, after which every job would run.
    for kind in set(kinds(way)) - {"data", "labels"}:
        damage(study, kind, way)
    assert study.counted(study.run()) == TRAINED
    assert_same_products(study, small_study)
    assert study.jobs() == {}


def test_data_and_labels_are_made_again(small_study, tmp_path):
    """They are what they were: all jobs look, none trains or measures."""
    study = small_study.copy_with_results(tmp_path / "copy")
    damage(study, "data", "truncate")
    damage(study, "labels", "replace")
    before = contents(study.results / "runs")
    study.run()
    assert_same_products(study, small_study)
    assert contents(study.results / "runs") == before


def assert_same_products(study, other):
    """Compare snapshots and pictures byte for byte, tables value for value."""
    made, expected = contents(study.folder / "results"), contents(other.folder / "results")
    assert {n for n in made if not n.endswith(".unusable")} == expected.keys()
    for name in expected:
        if name.endswith(".parquet"):
            tables = (read_table(s.folder / "results" / name).to_pandas() for s in (study, other))
            pd.testing.assert_frame_equal(*tables)
        elif name.endswith((".safetensors", ".png", ".pdf", ".yaml")):
            assert made[name] == expected[name], name


def test_a_named_figure_is_drawn_from_tables_whatever_the_runs_are(small_study, tmp_path):
    study = small_study.copy_with_results(tmp_path / "copy")
    shutil.rmtree(study.results / "runs")
    assert study.jobs("figure4") == {}
    (study.folder / "results/demo/figures/figure4.pdf").unlink()
    assert study.jobs("figure4") == {"draw_figure": 1, "figure4": 1}


def test_training_again_is_deleting_the_run(small_study, tmp_path):
    study = small_study.copy_with_results(tmp_path / "copy")
    shutil.rmtree(study.results / "runs/w1_s0")
    assert study.counted(study.run()) == TRAINED
    assert "resumed" not in (study.results / "logs/train/w1_s0.log").read_text().splitlines()[-1]
    assert_same_products(study, small_study)
    assert study.jobs() == {}
