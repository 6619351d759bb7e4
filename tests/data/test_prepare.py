from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smoothdescent.cli import main
from smoothdescent.data.sources import Decoded
from smoothdescent.data.sources.procedural import procedural
from smoothdescent.data.store import open_store


def prepare(settings: str, output: Path, *arguments: str) -> None:
    main(
        [
            "prepare-data",
            "--settings",
            settings,
            "--name",
            "set",
            "--output",
            str(output),
            *arguments,
        ]
    )


def test_procedural(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "data" / "set.safetensors"
    prepare('{"source": "procedural", "seed": 1, "train": 30, "test": 10}', output)
    store = open_store(output)
    expected = procedural(seed=1, train=30, test=10)
    np.testing.assert_array_equal(store.train.images, expected.train_images)
    assert (store.name, store.description) == ("set", expected.description)
    assert "30 training and 10 test images of 16 pixels, 10 classes" in capsys.readouterr().out


def test_parquet_from_a_settings_file(tmp_path: Path, folder: Path, decoded: Decoded) -> None:
    block = tmp_path / "block.yaml"
    block.write_text(f"source: parquet\npath: {folder}\nstd: [0.2, 0.2, 0.3]\n")
    output = tmp_path / "set.safetensors"
    prepare(str(block), output, "--threads", "2")
    store = open_store(output)
    np.testing.assert_array_equal(store.test.images, decoded.test_images)
    assert store.std == (0.2, 0.2, 0.3)


def test_threads_are_passed_on(
    tmp_path: Path, decoded: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(settings: dict, *, threads: int) -> Decoded:
        asked.append((settings, threads))
        return decoded

    monkeypatch.setattr("smoothdescent.data.prepare.read_source", read)
    prepare('{"source": "x"}', tmp_path / "set.safetensors", "--threads", "5")
    assert asked == [({"source": "x"}, 5)]


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"source": "disk"}, [], "data key 'source' is 'disk'; expected one of"),
        ({"source": "parquet", "path": "/nowhere"}, [], "/nowhere is not a folder"),
        ({"source": "procedural"}, ["--threads", "0"], "argument --threads is 0; expected at"),
    ],
)
def test_a_fault_is_explained_and_nothing_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    settings: dict,
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        prepare(json.dumps(settings), tmp_path / "set.safetensors", *arguments)
    assert exit_status.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"smoothdescent: error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
