"""The configuration: overlays, ranges, and messages for what is wrong."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from smoothdescent.config.load import (
    overlay,
    read_experiment,
    read_yaml,
    resolve,
    write_experiment,
)
from smoothdescent.errors import UserError

SHIPPED = Path(__file__).parents[2] / "config.yaml"
NAME = "convnet-cifar10-noise20"


@pytest.fixture
def config():
    return read_yaml(SHIPPED)


@pytest.mark.parametrize("scale", ["demo", "small", "gpu", "paper"])
def test_every_shipped_scale_resolves(config, scale):
    study = resolve({**config, "scale": scale})
    experiment = study.experiments[NAME]
    assert experiment.boundaries[-1] == experiment.epochs


def test_paper_scale_is_the_specification(config):
    experiment = resolve({**config, "scale": "paper"}).experiments[NAME]
    assert experiment.widths == list(range(1, 65))
    assert experiment.epochs == 4000
    assert len(experiment.seeds) == 3
    assert experiment.batch_size == 128
    assert experiment.optimizer.learning_rate == 0.005
    assert experiment.optimizer.momentum == 0.9
    assert experiment.optimizer.warmup_epochs == 5
    assert experiment.data.validation == 1000
    assert experiment.measure.samples is None
    assert experiment.measure.paths.strengths == [5, 10, 15, 20, 22, 25]


def set_key(config, path, value):
    changed = copy.deepcopy(config)
    block = changed
    *parents, last = path.split("/")
    for key in parents:
        block = block[key]
    block[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sclae", "demo", ["sclae", "unknown key"]),
        ("scale", "huge", ["scale", "huge", "demo", "paper"]),
        ("threads", 0, ["threads", "greater than or equal to 1"]),
        ("device", "tpu", ["device", "tpu", "cuda"]),
        (f"experiments/{NAME}/widht", 3, [f"experiments.{NAME}.widht", "unknown key"]),
        ("scales/demo/defaults/widths", [0, 1], ["widths", "found 0"]),
        ("scales/demo/defaults/widths", [2, 1], ["widths", "increasing"]),
        ("scales/demo/defaults/widths", [], ["widths", "at least 1 item"]),
        ("defaults/measure/measures", ["jacobian"], ["jacobian", "expected some of accuracy"]),
        ("defaults/measure/measures", [], ["measures is []"]),
        ("defaults/measure/measures", ["a:margin", "b:margin"], ["each name once"]),
        ("defaults/measure/measures", ["a:volume"], ["no other column's"]),
        ("scales/demo/defaults/epochs", 12.5, ["epochs", "12.5", "integer"]),
        ("scales/demo/defaults/epochs", "80", ["epochs", "'80'", "string"]),
        ("scales/demo/defaults/epochs", True, ["epochs", "integer"]),
        ("scales/demo/defaults/snapshots", [5000], ["snapshots", "5000", "epochs"]),
        ("scales/demo/defaults/segments", [0], ["segments", "epoch 0"]),
        (f"experiments/{NAME}/noise/rate", 1.5, ["noise.rate", "1.5", "1"]),
        (f"experiments/{NAME}/noise/kind", "salt", ["noise", "salt", "symmetric"]),
        (f"experiments/{NAME}/optimizer/name", "lion", ["optimizer", "lion", "adam"]),
        (f"experiments/{NAME}/optimizer/momentum", 1.0, ["momentum", "less than 1"]),
        (f"experiments/{NAME}/data/dataset", "cifar11", ["cifar11", "cifar10"]),
        (f"experiments/{NAME}/threshold_accuracy", ".nan", ["threshold_accuracy"]),
        ("datasets/cifar10/source", "s3", ["datasets.cifar10", "s3", "parquet"]),
        ("datasets/cifar10/path", 3, ["datasets.cifar10.path", "3", "string"]),
        ("scales/demo/experiments/other", {}, ["other", NAME]),
        ("scales/demo/widths", [1], ["scales.demo", "widths", "defaults"]),
        ("scales/demo", None, ["scales.demo", "None", "mapping"]),
        ("experiments", [], ["experiments", "mapping"]),
        ("scales/demo/experiments", [NAME], ["scales.demo.experiments", "mapping"]),
        (
            "scales/demo/experiments",
            dict.fromkeys(read_yaml(SHIPPED)["experiments"]),
            ["experiments is empty"],
        ),
        ("memory", "lots", ["memory", "lots"]),
        ("results", "my results", ["results", "my results"]),
        ("scales/demo/defaults/measure/samples", 3000, ["measure.samples is 3000", "2000"]),
        ("scales/demo/defaults/measure/paths/strengths", [2, 14], ["strengths", "14", "13"]),
    ],
)
def test_a_fault_is_told_with_its_key(config, path, value, words):
    config["scales"]["demo"]["defaults"]["data"]["train_samples"] = 2000
    if path.endswith("dataset"):
        del config["scales"]["demo"]["experiments"][NAME]["data"]
    with pytest.raises(UserError) as raised:
        resolve(set_key(config, path, value))
    for word in ["config.yaml", *words]:
        assert word in str(raised.value), str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_without_a_dot_are_read(config):
    text = "{name: sgd, learning_rate: 1e-3}"
    assert yaml.safe_load(text)["learning_rate"] == "1e-3", "YAML 1.1 reads a string"
    changed = set_key(config, f"experiments/{NAME}/optimizer", yaml.safe_load(text))
    changed["scale"] = "paper"
    assert resolve(changed).experiments[NAME].optimizer.learning_rate == 1e-3


def test_ranges(config):
    config["scales"]["demo"]["defaults"]["widths"] = ["1..3", 8]
    assert resolve(config).experiments[NAME].widths == [1, 2, 3, 8]


def test_another_kind_of_block_replaces_the_old_one():
    base = {"optimizer": {"name": "sgd", "momentum": 0.9}, "widths": [1, 2]}
    patch = {"optimizer": {"name": "adam", "learning_rate": 1e-4}, "widths": [3]}
    assert overlay(base, patch) == patch
    assert overlay(base, {"optimizer": {"momentum": 0.5}})["optimizer"] == {
        "name": "sgd",
        "momentum": 0.5,
    }


trees = st.recursive(
    st.integers(),
    lambda children: st.dictionaries(st.sampled_from("abcd"), children, max_size=3),
)


@given(trees, trees)
def test_overlay_keeps_its_arguments_and_lets_the_patch_win(base, patch):
    before = copy.deepcopy((base, patch))
    merged = overlay(base, patch)
    assert (base, patch) == before
    assert overlay(merged, patch) == merged
    if isinstance(base, dict) and isinstance(patch, dict):
        assert merged.keys() == base.keys() | patch.keys()


def test_a_scale_can_leave_an_experiment_out(config):
    config["experiments"]["second"] = copy.deepcopy(config["experiments"][NAME])
    assert {NAME, "second"} <= set(resolve(config).experiments)
    config["scales"]["demo"]["experiments"]["second"] = None
    assert "second" not in resolve(config).experiments


def test_resolved_file_round_trip(config, tmp_path):
    study = resolve(config)
    write_experiment(study, NAME, tmp_path / "config.yaml")
    again, name, experiment = read_experiment(tmp_path / "config.yaml")
    assert name == NAME
    assert experiment == study.experiments[NAME]
    assert again.training_identity(NAME) == study.training_identity(NAME)


def test_training_identity_ignores_how_long_and_what_for(config):
    before = resolve(config).training_identity(NAME)
    same = copy.deepcopy(config)
    same["scales"]["demo"]["defaults"] |= {"epochs": 500, "widths": [9], "segments": [100]}
    assert resolve(same).training_identity(NAME) == before
    for path, value in [
        (f"experiments/{NAME}/noise/rate", 0.3),
        (f"experiments/{NAME}/noise/seed", 1),
        (f"experiments/{NAME}/optimizer/momentum", 0.8),
        ("scales/demo/defaults/batch_size", 32),
        ("datasets/procedural10/seed", 1),
    ]:
        assert resolve(set_key(config, path, value)).training_identity(NAME) != before, path


def test_segments(config):
    config["scales"]["demo"]["defaults"] |= {
        "epochs": 50,
        "segments": [10, 30],
        "snapshots": [],
    }
    experiment = resolve(config).experiments[NAME]
    assert experiment.boundaries == [10, 30, 50]
    assert [experiment.segment_start(end) for end in (10, 30, 50)] == [0, 10, 30]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "does not exist"), ("a: [", "not valid YAML"), ("- 1", "list"), ("\xff", "YAML")],
)
def test_a_file_that_is_no_mapping(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=words):
        read_yaml(path)


def test_a_stage_needs_a_resolved_file():
    with pytest.raises(UserError, match="expected it resolved: smoothdescent config"):
        read_experiment(SHIPPED)


def test_where_images_lie_does_not_determine_a_result(config):
    config["scale"] = "paper"
    before = resolve(config)
    config["datasets"]["cifar10"] |= {"path": "elsewhere", "download": False}
    after = resolve(config)
    assert after.training_identity(NAME) == before.training_identity(NAME)
    config["datasets"]["cifar10"]["mean"] = [0.5, 0.5, 0.5]
    assert resolve(config).training_identity(NAME) != before.training_identity(NAME)


def test_snapshots_at_the_end_of_the_training_and_nowhere_else_unasked(config):
    config["scales"]["demo"]["defaults"] |= {"epochs": 50, "segments": [20], "snapshots": [5]}
    experiment = resolve(config).experiments[NAME]
    assert [experiment.snapshot_epochs(until) for until in (4, 20, 50)] == [[], [5], [5, 50]]


@pytest.mark.parametrize(
    ("size", "packs"),
    [
        (1, {"w1_s0": ["w1_s0"], "w1_s1": ["w1_s1"], "w4_s0": ["w4_s0"], "w4_s1": ["w4_s1"]}),
        (2, {"w1_s0-w1_s1": ["w1_s0", "w1_s1"], "w4_s0-w4_s1": ["w4_s0", "w4_s1"]}),
        (3, {"w1_s0-w1_s1": ["w1_s0", "w1_s1"], "w4_s0-w4_s1": ["w4_s0", "w4_s1"]}),
        (4, {"w1_s0-w4_s1": ["w1_s0", "w1_s1", "w4_s0", "w4_s1"]}),
    ],
)
def test_packs(config, size, packs):
    config["scales"]["demo"]["defaults"] |= {"widths": [1, 4], "seeds": [0, 1]}
    config["runs_per_job"] = size
    assert resolve(config).packs(NAME) == packs


def test_augmentation_determines_the_weights(config):
    before = resolve(config).training_identity(NAME)
    config["experiments"][NAME]["augmentation"] = {"shift": 2}
    study = resolve(config)
    assert study.experiments[NAME].augmentation.flip
    assert study.training_identity(NAME) != before
