"""What the README shows works as it stands there, on fewer images."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from smoothdescent.cli import main
from smoothdescent.data.sources import read_source
from smoothdescent.data.store import write_store
from smoothdescent.files import read_table

README = (Path(__file__).parents[1] / "README.md").read_text()
DATA = "results/demo/data/procedural10.safetensors"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that the examples read."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(resnet18(num_classes=10).state_dict(), "resnet18.safetensors")
    settings = {"source": "procedural", "seed": 0, "train": 10, "test": 1}
    write_store(DATA, "procedural10", read_source(settings))
    return tmp_path


def example(language, word):
    [code] = [c for c in re.findall(rf"```{language}\n(.*?)```", README, re.S) if word in c]
    assert "256" in code
    return code.replace("256", "3")


def test_sharpness_of_a_torchvision_network(here, capsys):
    exec(compile(example("python", "resnet18"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "hessian_norm" in printed
    assert len(printed.strip().splitlines()) == 2 + 5, "a header and volumes 0 to 4"


def test_the_measure_command(here):
    words = shlex.split(example("sh", "smoothdescent measure").replace("\\\n", " "))
    assert words[0] == "smoothdescent"
    main(words[1:])
    assert read_table(here / "sharpness.parquet").num_rows == 3 * 5
