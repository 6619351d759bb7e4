"""All four experiments of the paper and a user's own, tiny, through Snakemake to the report."""

import json
import re

import numpy as np
import pytest
import yaml
from data.conftest import encode
from workflow.study import REPOSITORY, Study

from smoothdescent.files import read_metadata, read_table

pytestmark = pytest.mark.slow

DOCUMENT = (REPOSITORY / "docs/your-own.md").read_text()
TINY = {"widths": [1, 2], "seeds": [0], "epochs": 2, "snapshots": [1]}
TINY["final_snapshots"] = {"count": 1, "every": 1}


def blocks(language, word):
    """Return the document's code blocks in a language that hold a word."""
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.S)
    return [block for block in found if word in block]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The demo with all its experiments, cut down to seconds, and those of the document."""
    study = Study(tmp_path_factory.mktemp("all"))
    shipped = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    scale = shipped["scales"]["demo"]
    for block in (scale["defaults"], *scale["experiments"].values()):
        for key in TINY.keys() & block.keys():
            del block[key]
        block.get("data", {}).pop("train_samples", None)
    for block in scale["experiments"].values():
        block.pop("measure", None)
    study.config |= {"experiments": shipped["experiments"], "scales": shipped["scales"]}
    scale["defaults"] |= TINY | {"batch_size": 20}
    scale["defaults"]["measure"]["samples"] = 6
    for name in ("procedural10", "procedural20"):
        study.config["datasets"][name] |= {"train": 100, "test": 40}
    study.write()
    own = {}
    for text in (t for word in ("experiments:", "scales:") for t in blocks("yaml", word)):
        merge(own, yaml.safe_load(text))
    # The examples are on CIFAR-10, which no test may download.
    merge(own, {"scales": {"demo": {"experiments": {}}}})
    for name in own["experiments"]:
        if own["experiments"][name]["data"]["dataset"] == "cifar10":
            stand_in = {"data": {"dataset": "procedural10"}}
            own["scales"]["demo"]["experiments"][name] = stand_in
    (study.folder / "mine.yaml").write_text(yaml.safe_dump(own))
    [network] = blocks("python", "my_networks.py")
    (study.folder / "my_networks.py").write_text(network)
    write_flowers(study.folder / own["datasets"]["flowers"]["path"])
    study.own = set(own["experiments"])
    study.printed = study.run("--configfile", "mine.yaml")
    return study


def merge(base, patch):
    for key, value in patch.items():
        if isinstance(value, dict):
            merge(base.setdefault(key, {}), value)
        else:
            base[key] = value


def write_flowers(folder):
    """Write random images with the document's own function."""
    from PIL import Image

    folder.mkdir(parents=True)
    names = {}
    [code] = blocks("python", "def write_shard")
    exec(compile(code, "your-own.md", "exec"), names)
    draw = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        pixels = draw.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        images = [Image.fromarray(image) for image in pixels]
        labels = [int(i) % 3 for i in range(count)]
        names["write_shard"](f"{folder}/{split}-00000-of-00001.parquet", images, labels)
    assert encode(pixels[0])[1:4] == b"PNG"


def test_eight_figures_and_those_of_ones_own(study):
    folder = study.folder / "results/demo/figures"
    names = {f"figure{n}" for n in range(1, 9)} | study.own
    assert {path.stem for path in folder.glob("*.png")} == names
    assert len(study.own) == 3
    for name in names:
        assert (folder / f"{name}.pdf").stat().st_size > 1000
        metadata = read_metadata(folder / f"{name}.parquet")
        # Nothing interpolates in two epochs: the figure is drawn, and says so.
        assert set(json.loads(metadata["thresholds"]).values()) == {None}
        assert metadata["verdict"].startswith("Verdict: statement")


def test_the_verdict_is_on_every_statement_and_experiment(study):
    table = read_table(study.folder / "results/demo/verdict.parquet").to_pandas()
    assert set(table["number"]) == set(range(1, 16))
    assert study.own < set(table["experiment"])


def test_networks_and_augmentation_are_those_asked_for(study):
    results = study.folder / "results/demo"
    resnet = read_table(results / "resnet18-cifar10-noise20/history.parquet").to_pandas()
    assert resnet["parameters"].min() > 2700, "a ConvNet of width 1 has 500"
    own = read_table(results / "perceptron-cifar10-noise20/history.parquet").to_pandas()
    assert own["parameters"].iloc[0] == 768 * 8 + 8 + 8 * 8 + 8 + 8 * 10 + 10
    corrupted = read_table(results / "convnet-cifar100-asymmetric/history.parquet").to_pandas()
    assert corrupted["test_error_corrupted"].notna().any()
    labels = read_table(results / "convnet-cifar100-asymmetric/labels.parquet").to_pandas()
    assert labels["is_noisy"].mean() == pytest.approx(0.16, abs=0.02)


def test_the_report_has_all_figures_with_captions(study):
    study.run("--configfile", "mine.yaml", "--report", "report.html")
    page = (study.folder / "report.html").read_text()
    assert "Residual networks in the settings of practice" in page
    assert "verdict on each finding" in page
    for n in range(1, 9):
        assert f"figure{n}.png" in page
