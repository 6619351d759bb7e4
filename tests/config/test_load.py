"""The configuration: overlays, ranges, and messages for what is wrong."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config

from smoothdescent.cli import main
from smoothdescent.config.load import (
    add_layer,
    as_in_a_file,
    overlay,
    overrides,
    parse_settings,
    read_yaml,
    resolve,
)
from smoothdescent.config.schema import NETWORK_FAMILIES, ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.files import canonical_json
from smoothdescent.networks.registry import NETWORKS

SHIPPED = Path(__file__).parents[2] / "config.yaml"
NAME = "convnet-cifar10-noise20"


@pytest.fixture
def config():
    return read_yaml(SHIPPED)


@pytest.mark.parametrize("scale", ["demo", "small", "medium", "gpu", "paper"])
def test_every_shipped_scale_resolves(config, scale):
    study = resolve({**config, "scale": scale})
    experiment = study.experiments[NAME]
    assert experiment.snapshot_epochs[-1] == experiment.epochs


def test_an_experiments_own_block_goes_before_a_scales_defaults(config, capsys, tmp_path):
    assert overrides(config) == []
    del config["scales"]["demo"]["experiments"][NAME]["measure"]
    config["experiments"][NAME] |= {"epochs": 500, "widths": [3, 5], "measure": {"samples": 7}}
    own = resolve(config).experiments[NAME]
    assert (own.epochs, own.widths, own.measure.samples) == (500, [3, 5], 7)
    assert own.measure.paths.strengths[0] == 1, "the rest of the block is the scale's"
    demo = "scales.demo.defaults"
    (line,) = overrides(config)
    assert line.startswith(
        f"experiments.{NAME} goes before {demo}: epochs: 500 (there 250), widths"
    )
    assert "measure.samples: 7 (there 300)" in line
    config["scales"]["demo"]["experiments"][NAME] |= {"epochs": 60, "snapshots": []}
    assert resolve(config).experiments[NAME].epochs == 60
    assert "epochs" not in overrides(config)[0]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    main(["config", str(file), "--experiment", NAME])
    assert capsys.readouterr().err == f"# {overrides(config)[0]}\n"


def test_what_a_command_line_gave_is_read_as_in_a_file():
    config = {
        "scale": "demo",
        "defaults": {"epochs": "100", "name": "80", "list": ["1", "2.5", "1..4"], "on": "true"},
        "none": "null",
        "number": 3,
    }
    given = {
        "defaults": {"epochs": "100", "list": ["1", "2.5", "1..4"], "on": "true"},
        "none": "null",
        "number": 3,
    }
    before = copy.deepcopy(config)
    assert as_in_a_file(config, given) == {
        "scale": "demo",
        "defaults": {"epochs": 100, "name": "80", "list": [1, 2.5, "1..4"], "on": True},
        "none": None,
        "number": 3,
    }
    assert config == before


def test_the_networks_that_a_configuration_may_name():
    assert set(NETWORK_FAMILIES) == set(NETWORKS)


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


DEMO = f"scales/demo/experiments/{NAME}"
BLOCK = read_yaml(SHIPPED)["experiments"][NAME]
BOMB: list = [0]
for _ in range(12):
    BOMB = [BOMB] * 10


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
        ("scales/demo/defaults/final_snapshots", 5, ["final_snapshots", "found 5"]),
        (
            "scales/demo/defaults/final_snapshots/count",
            0,
            ["final_snapshots.count", "greater than"],
        ),
        ("scales/demo/defaults/final_snapshots/count", 26, ["count: 26, every: 10", "epochs: 250"]),
        (f"experiments/{NAME}/noise/rate", 1.5, ["noise.rate", "1.5", "1"]),
        (f"experiments/{NAME}/noise/kind", "salt", ["noise", "salt", "symmetric"]),
        (f"experiments/{NAME}/optimizer/name", "lion", ["optimizer", "lion", "adam"]),
        (f"experiments/{NAME}/optimizer/schedule", "cosine", ["schedule", "inverse_sqrt"]),
        (f"experiments/{NAME}/optimizer/momentum", 1.0, ["momentum", "less than 1"]),
        (f"experiments/{NAME}/data/dataset", "cifar11", ["cifar11", "cifar10"]),
        ("defaults/stop_below", {"loss": 0.0, "for_epochs": 5}, ["stop_below.loss", "found 0.0"]),
        ("defaults/stop_below", {"loss": 0.1}, ["stop_below.for_epochs", "missing"]),
        ("defaults/threshold/accuracy", ".nan", ["threshold.accuracy"]),
        ("defaults/threshold/statistic", "max", ["threshold.statistic", "max", "median"]),
        ("defaults/threshold", 0.9995, ["threshold", "found 0.9995"]),
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
        # What no computer has the memory or the time for is told before anything runs.
        ("scales/demo/defaults/widths", "1..9999999999", ["widths", "1..9999999999", "at most"]),
        ("scales/demo/defaults/seeds", [2**63], ["seeds", "less than 9223372036854775808"]),
        (f"experiments/{NAME}/optimizer/learning_rate", 1e308, ["learning_rate", "equal to 1000"]),
        ("defaults/measure/jitters", 10**9, ["measure.jitters", "equal to 1000"]),
        (f"{DEMO}/augmentation", {"shift": 10**6}, ["shift", "equal to 1024"]),
        ("defaults/snapshots", BOMB, ["stands for more than 100000 values"]),
        ("experiments/all", BLOCK, ["experiments.all", "calls something else 'all'"]),
        (f"experiments/{NAME.replace('-', '_')}", BLOCK, [NAME, "its rules would be named as"]),
        ("experiments/figure3", BLOCK, ["calls something else 'figure3'"]),
        ("memory", "1KB", ["memory", "1KB", "at least 16MiB"]),
        ("epochs", 10, ["epochs: unknown key here", "scales={demo: {defaults: {epochs: ...}}}"]),
        (f"experiments/{NAME}/network", "convnett", ["network", "convnett", "resnet18"]),
        ("results", "my results", ["results", "my results"]),
        ("scales/demo/defaults/measure/samples", 3000, ["measure.samples is 3000", "2000"]),
        ("scales/demo/defaults/measure/paths/strengths", [2, 14], ["strengths", "14", "at most 5"]),
    ],
)
def test_a_fault_is_told_with_its_key(config, path, value, words):
    config["scales"]["demo"]["defaults"]["data"]["train_samples"] = 2000
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


@given(trees, trees)
def test_a_layer_is_laid_over_as_snakemake_does(base, layer):
    base, layer = ({"a": tree} for tree in (base, layer))
    expected = copy.deepcopy(base)
    update_config(expected, copy.deepcopy(layer))
    assert add_layer(base, layer) == expected


def test_a_scale_can_leave_an_experiment_out(config):
    config["experiments"]["second"] = copy.deepcopy(config["experiments"][NAME])
    assert {NAME, "second"} <= set(resolve(config).experiments)
    config["scales"]["demo"]["experiments"]["second"] = None
    assert "second" not in resolve(config).experiments


def identity(config):
    return resolve(config).resolved(NAME).training_identity


def test_settings_by_value_round_trip(config):
    resolved = resolve(config).resolved(NAME)
    text = canonical_json(resolved.model_dump(mode="json"))
    again = parse_settings(ResolvedExperiment, text, "--settings")
    assert again == resolved and again.training_identity == resolved.training_identity


def test_settings_that_are_not_an_experiment():
    for text in ("{", '{"name": "x"}', "[]"):
        with pytest.raises(UserError, match="--settings"):
            parse_settings(ResolvedExperiment, text, "--settings")


def test_the_command_prints_what_the_stages_take(config, capsys):
    main(["config", str(SHIPPED), "--experiment", NAME, "--json"])
    printed = capsys.readouterr().out
    assert parse_settings(ResolvedExperiment, printed, "") == resolve(config).resolved(NAME)
    main(["config", str(SHIPPED), "--experiment", NAME])
    block = yaml.safe_load(capsys.readouterr().out)
    assert block.keys() == {"datasets", "experiments"}


def test_training_identity_ignores_how_long_and_what_for(config):
    before = identity(config)
    same = copy.deepcopy(config)
    same["scales"]["demo"]["defaults"] |= {"epochs": 500, "widths": [9], "seeds_per_job": 2}
    assert identity(same) == before
    for path, value in [
        (f"experiments/{NAME}/noise/rate", 0.3),
        (f"experiments/{NAME}/noise/seed", 1),
        (f"experiments/{NAME}/optimizer/momentum", 0.8),
        (f"experiments/{NAME}/optimizer/schedule", "inverse_sqrt"),
        ("defaults/stop_below", {"loss": 0.01, "for_epochs": 50}),
        ("scales/demo/defaults/batch_size", 32),
    ]:
        assert identity(set_key(config, path, value)) != before, path
    schedule = f"experiments/{NAME}/optimizer/schedule"
    assert identity(set_key(config, schedule, "constant")) == before


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


def test_where_images_lie_does_not_determine_a_result(config):
    config["scale"] = "paper"
    before = identity(config)
    config["datasets"]["cifar10"] |= {"path": "elsewhere", "download": False}
    assert identity(config) == before


def test_snapshots_at_the_end_of_the_training_and_nowhere_else_unasked(config):
    one = {"count": 1, "every": 20}
    config["scales"]["demo"]["defaults"] |= {"epochs": 50, "snapshots": [5], "final_snapshots": one}
    assert resolve(config).experiments[NAME].snapshot_epochs == [5, 50]


def test_final_snapshots_are_kept_beside_the_others(config):
    config["scales"]["demo"]["defaults"] |= {"epochs": 50, "snapshots": [5, 30]}
    config["scales"]["demo"]["defaults"]["final_snapshots"] = {"count": 3, "every": 10}
    experiment = resolve(config).experiments[NAME]
    assert experiment.final_epochs == [30, 40, 50]
    assert experiment.snapshot_epochs == [5, 30, 40, 50]


@pytest.mark.parametrize(
    ("size", "groups"),
    [(1, [[0], [1], [4]]), (2, [[0, 1], [4]]), (3, [[0, 1, 4]]), (9, [[0, 1, 4]])],
)
def test_seeds_of_a_job(config, size, groups):
    own = config["scales"]["demo"]["experiments"][NAME]
    own |= {"seeds": [0, 1, 4], "seeds_per_job": size}
    assert resolve(config).experiments[NAME].seed_groups == groups


def test_augmentation_determines_the_weights(config):
    before = identity(config)
    config["experiments"][NAME]["augmentation"] = {"shift": 2}
    assert resolve(config).experiments[NAME].augmentation.flip
    assert identity(config) != before


@pytest.mark.parametrize(
    "odd",
    [
        "my results",
        "r(1)",
        "$(>PWNED)",
        "a;b",
        "r*",
        "{x}",
        "'",
        "",
        "~no_such_user/x",
        "$NOWHERE/x",
    ],
)
def test_results_that_a_shell_would_not_take_as_they_are(config, odd, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(UserError, match=r"config\.yaml: results: "):
        resolve({**config, "results": odd})


def test_home_and_variables_in_paths(config, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/é")
    config["datasets"]["cifar10"]["path"] = "$SCRATCH/cifar"
    study = resolve({**config, "results": "~/x", "scale": "small"})
    assert study.results == "/home/me/x"
    assert study.datasets["cifar10"].path == "/scratch/é/cifar"
