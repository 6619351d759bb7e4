"""What is looked for before anything starts."""

from pathlib import Path

import numpy as np
import pytest
from data.conftest import encode, write_shard

from smoothdescent.config.load import read_yaml, resolve
from smoothdescent.config.preflight import check_images, check_imports
from smoothdescent.errors import UserError

SHIPPED = Path(__file__).parents[2] / "config.yaml"
NAME = "convnet-cifar10-noise20"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """One experiment, in a folder of the user's."""
    monkeypatch.chdir(tmp_path)
    config = read_yaml(SHIPPED)
    config["scales"]["demo"]["experiments"] = {
        name: None for name in config["experiments"] if name != NAME
    }
    return config


def write_images(folder, size=16, test_size=None, name="{}-00000.parquet", **keys):
    folder.mkdir()
    for split, pixels in (("train", size), ("test", test_size or size)):
        images = [encode(np.zeros((pixels, pixels, 3), np.uint8))] * 2
        write_shard(folder / name.format(split), images, {"label": [0, 1]}, **keys)


def with_images(config, **keys):
    config["datasets"]["mine"] = {"source": "parquet", "path": "mine"}
    config["experiments"][NAME]["data"]["dataset"] = "mine"
    config["scales"]["demo"]["defaults"]["measure"]["paths"]["strengths"] = [2, 10]
    config["scales"]["demo"]["experiments"] |= {NAME: keys}
    return resolve(config)


def test_images_that_are_there(config, tmp_path):
    write_images(tmp_path / "mine")
    check_images(with_images(config), tmp_path / "decoded")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (None, "datasets.mine: mine is not a folder"),
        ({"name": "{}.parquet"}, "no shard of the split 'train'"),
        ({"image_column": "picture"}, "no column 'img' or 'image'"),
        ({"test_size": 8}, "16 pixels, the first test image 8; expected one size"),
        ({"size": 12}, "measure.paths.strengths .*10"),
    ],
)
def test_images_that_are_not(config, tmp_path, images, words):
    if images is not None:
        write_images(tmp_path / "mine", **images)
    study = with_images(config)
    with pytest.raises(UserError, match=words):
        check_images(study, tmp_path / "decoded")
    # What is decoded already need not be there.
    (tmp_path / "decoded").mkdir()
    (tmp_path / "decoded/mine.safetensors").touch()
    check_images(study, tmp_path / "decoded")


def test_cifar_that_may_not_be_downloaded(config, tmp_path):
    config["datasets"]["cifar10"] |= {"path": "here", "download": True}
    study = resolve({**config, "scale": "small"})
    check_images(study, tmp_path)
    config["datasets"]["cifar10"]["download"] = False
    study = resolve({**config, "scale": "small"})
    with pytest.raises(UserError, match=r"datasets\.cifar10: .*here"):
        check_images(study, tmp_path)
    (tmp_path / "here/cifar-10-batches-bin").mkdir(parents=True)
    check_images(study, tmp_path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def small(width): ...", None),
        ("from os.path import join as small", None),
        ("from torch.nn import *", None),
        ("small = lambda width: None", None),
        ("def large(width): ...", "does not define 'small'"),
        ("import torhc\ndef small(): ...", "imports 'torhc', which is not installed"),
        ("def small(:", "line 1, is not Python"),
        (None, "there is no module 'nets.own'"),
    ],
)
def test_networks_of_the_users(config, tmp_path, code, words):
    (tmp_path / "nets").mkdir()
    if code is not None:
        (tmp_path / "nets/own.py").write_text(code)
    config["experiments"][NAME]["network"] = "nets.own:small"
    if words is None:
        check_imports(resolve(config))
        return
    with pytest.raises(UserError, match=words) as raised:
        check_imports(resolve(config))
    assert str(raised.value).startswith(f"experiments.{NAME}.network is 'nets.own:small', but ")


def test_installed_networks_and_measures(config):
    config["experiments"][NAME]["network"] = "torchvision.models:resnet18"
    check_imports(resolve(config))
    config["defaults"]["measure"]["measures"] = ["accuracy", "no_module:margin"]
    with pytest.raises(
        UserError, match=r"measure\.measures is 'no_module:margin', but there is no"
    ):
        check_imports(resolve(config))
