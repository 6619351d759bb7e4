"""What `pip install smoothdescent` gives alone: the library, and a sentence for the rest."""

import email
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from smoothdescent.cli import COMMANDS, main
from smoothdescent.files import read_table
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import save_weights

REPOSITORY = Path(__file__).parents[1]
IN_THE_LIBRARY = ("measure", "prepare-data", "orphans")
# Python imports it when it starts: packages that the wheel does not ask for are not there.
HOOK = """
import sys
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden)
"""
LIBRARY = """
import torch
import smoothdescent
from smoothdescent.sharpness import ShiftPaths, SVDPaths, hessian_norm, measure
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
images, labels = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 0])
for paths in (SVDPaths(2, (1, 2)), ShiftPaths(2, (1, 2))):
    table = measure(network, images, labels, mean=(0.5,) * 3, std=(0.5,) * 3, paths=paths)
    print(table.num_rows, (hessian_norm(table["hessian_sumsq"], 4, 0.1) > 0).all())
print(smoothdescent.__file__)
"""

pytestmark = pytest.mark.slow


def needed(lines, found):
    """Add to `found` the distributions that requirements ask for, and these ask for."""
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name not in found and (
            not requirement.marker or requirement.marker.evaluate({"extra": ""})
        ):
            found.add(name)
            needed(requires(name) or (), found)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder that the package's wheel is unpacked in, and the requirements that it states."""
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(source)]
    subprocess.run(command, check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    [metadata] = site.glob("*.dist-info/METADATA")
    message = email.message_from_string(metadata.read_text(encoding="utf-8"))
    return site, message.get_all("Requires-Dist")


def environment(wheel, folder, *beside):
    """Return the variables of a process that has the wheel, its requirements, and others."""
    site, asked = wheel
    there = {"smoothdescent", *needed([*asked, *beside], set())}
    hidden = {
        module
        for module, distributions in packages_distributions().items()
        if not there & set(map(canonicalize_name, distributions))
    }
    assert {"pandas", "yaml", "numba", "torchvision"} <= hidden
    (folder / "sitecustomize.py").write_text(HOOK.format(hidden=hidden), encoding="utf-8")
    paths = {"PYTHONPATH": f"{folder}{os.pathsep}{site}"}
    return os.environ | paths | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """The variables of a process that has the wheel, and what it asks for."""
    return environment(wheel, tmp_path_factory.mktemp("base"))


def run(base, folder, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=base, capture_output=True, text=True, check=False
    )


def test_the_library_computes(wheel, base, tmp_path):
    result = run(base, tmp_path, "-c", LIBRARY)
    assert result.returncode == 0, result.stderr
    *tables, place = result.stdout.splitlines()
    assert tables == ["9 True"] * 2
    assert Path(place).is_relative_to(wheel[0])


def test_a_picture_needs_matplotlib_alone(wheel, tmp_path):
    code = "from smoothdescent.figures import plot_sharpness as plot\n"
    code += "print(plot({'volume': [0, 1], 'jacobian_norm': [1.0, 2.0]}).get_ylabel())"
    result = run(environment(wheel, tmp_path, "matplotlib"), tmp_path, "-c", code)
    assert result.stdout == "Jacobian norm (nats per unit input)\n", result.stderr


def write_shards(folder):
    """Write random images of 8 pixels in the layout of the Hugging Face hub."""
    folder.mkdir()
    random = np.random.default_rng(0)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split, count in (("train", 12), ("test", 4)):
        rows = []
        for image in random.integers(0, 256, (count, 8, 8, 3), np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"img": pa.array(rows, kind), "label": np.arange(count) % 2})
        pq.write_table(table, folder / f"{split}-0.parquet")


def test_the_command_measures_what_the_whole_installation_does(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shards(tmp_path / "shards")
    torch.manual_seed(0)
    network = build("convnet", width=1, num_classes=2, image_size=8)
    save_weights("weights.safetensors", network, {})
    settings = '{"source": "parquet", "path": "shards"}'
    prepare = ["prepare-data", "--settings", settings, "--name", "own", "--output"]
    result = run(base, tmp_path, "-m", "smoothdescent", *prepare, "data.safetensors")
    assert result.returncode == 0, result.stderr
    noise = '{"noise": {"kind": "symmetric", "rate": 0.5}}'
    main(
        ["make-labels", "--data", "data.safetensors", "--settings", noise, "--output", "l.parquet"]
    )
    moments = "--mean 0.5 0.5 0.5 --std 0.2 0.2 0.2"
    for sources in (f"--data shards {moments}", "--data data.safetensors --labels l.parquet"):
        command = ["measure", "--network", "convnet", "--width", "1", "--strengths", "2", "4"]
        command += ["--weights", "weights.safetensors", *sources.split(), "--output"]
        result = run(base, tmp_path, "-m", "smoothdescent", *command, "base.parquet")
        assert result.returncode == 0, result.stderr
        main([*command, "whole.parquet"])
        base_table, whole = (read_table(f"{name}.parquet") for name in ("base", "whole"))
        assert base_table.schema.names == whole.schema.names and whole.num_rows == 12 * 3
        for name in whole.schema.names:
            found, expected = (table[name].to_numpy() for table in (base_table, whole))
            # Differences of gradients of float32: of small ones, rounding is much.
            rounding = {"rtol": 1e-2, "atol": 1e-3 * expected.max()} if "sumsq" in name else {}
            np.testing.assert_allclose(found, expected, **({"rtol": 1e-5} | rounding))


def test_help(base, tmp_path):
    result = run(base, tmp_path, "-m", "smoothdescent", "--help")
    assert result.returncode == 0 and "measure-runs" in result.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - IN_THE_LIBRARY))
def test_commands_of_the_study_say_what_is_missing(base, tmp_path, command):
    result = run(base, tmp_path, "-m", "smoothdescent", command, "--help")
    assert result.returncode == 2
    assert re.fullmatch(
        rf"smoothdescent: error: `smoothdescent {command}` needs (yaml|pandas|plotly|rocrate): "
        r"pip install 'smoothdescent\[study\]'\n",
        result.stderr,
    )


def test_an_option_that_needs_more_says_so(base, tmp_path):
    (tmp_path / "settings.yaml").write_text("source: procedural", encoding="utf-8")
    options = ["--settings", "settings.yaml", "--name", "own", "--output", "data.safetensors"]
    result = run(base, tmp_path, "-m", "smoothdescent", "prepare-data", *options)
    assert result.returncode == 2
    assert result.stderr == (
        "smoothdescent: error: `smoothdescent prepare-data` needs yaml: "
        "pip install 'smoothdescent[study]'\n"
    )
