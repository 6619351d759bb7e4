"""Files are whole or absent, and damage is told in one sentence."""

import os
import resource
import signal
import stat
import subprocess
import sys

import pandas as pd
import pytest
import torch

from smoothdescent.errors import UserError
from smoothdescent.files import (
    atomic_path,
    check_companions,
    fingerprint,
    made_again,
    read_metadata,
    read_table,
    remove_unfinished,
    seal,
    write_json,
    write_table,
)
from smoothdescent.networks.weights import save_tensors


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="midway"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_new_files_follow_the_umask(tmp_path):
    with atomic_path(tmp_path / "a") as temporary:
        temporary.touch(mode=0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_what_has_no_place_for_its_checksum_is_not_sealed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 200)
    with pytest.raises(ValueError, match="no place"):
        seal(path)
    assert path.read_bytes() == b"x" * 200


FILL = """
import resource, sys, numpy as np, pandas as pd, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from smoothdescent.files import write_table
from smoothdescent.errors import UserError
try:
    write_table(sys.argv[1], pd.DataFrame({"x": np.random.default_rng(0).random(100_000)}))
except UserError as error:
    print(error)
"""


def test_no_space_for_a_table(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, pd.DataFrame({"x": [1]}))
    run = subprocess.run(
        [sys.executable, "-c", FILL, path], capture_output=True, text=True, check=True
    )
    assert "cannot write" in run.stdout and str(path) in run.stdout, run.stderr
    assert read_table(path)["x"].to_pylist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_table_round_trip_with_metadata(tmp_path):
    path = tmp_path / "deep" / "t.parquet"
    write_table(path, pd.DataFrame({"x": [1, 2]}), {"a": "text", "b": {"c": [1]}})
    assert read_table(path, ["x"])["x"].to_pylist() == [1, 2]
    metadata = read_metadata(path)
    assert metadata["a"] == "text"
    assert metadata["b"] == '{"c":[1]}'


def test_damaged_tables(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(UserError, match=r"t\.parquet does not exist"):
        read_table(path)
    write_table(path, pd.DataFrame({"x": [1, 2]}))
    with pytest.raises(UserError, match="no column 'y'; its columns are x"):
        read_table(path, ["y"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"t\.parquet is damaged: its checksum is .*, expected"):
        read_table(path)
    with pytest.raises(UserError, match="its a is 'x', expected 'y'"):
        write_table(path, pd.DataFrame({"x": [1]}), {"a": "x"})
        read_table(path, expected={"a": "y"})


def test_any_changed_byte_of_any_kind_of_file_is_found(tmp_path):
    """In the content, in the metadata and in the checksum itself."""
    write_table(tmp_path / "t.parquet", pd.DataFrame({"x": [1, 2]}), {"a": "text"})
    write_json(tmp_path / "j.json", {"a": "text", "x": [1, 2]})
    save_tensors(tmp_path / "w.safetensors", {"x": torch.ones(2)}, {"a": "text"})
    for path in tmp_path.iterdir():
        assert read_metadata(path)["a"] == "text"
        content = path.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            with pytest.raises(UserError, match="damaged"):
                read_metadata(path)
        path.write_bytes(content)
        read_metadata(path)


def test_equal_content_gives_equal_files(tmp_path):
    for name in "ab":
        write_table(tmp_path / name, pd.DataFrame({"x": [1, 2]}), {"a": "text"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_companions_are_missed(tmp_path):
    picture, path = tmp_path / "p.png", tmp_path / "t.parquet"
    picture.write_bytes(b"1")
    write_table(path, pd.DataFrame({"x": [1]}), companions=[picture])
    check_companions(path, read_metadata(path))
    picture.write_bytes(b"2")
    with pytest.raises(UserError, match=r"p\.png is missing, or not the file that"):
        check_companions(path, read_metadata(path))


def test_fingerprint_ignores_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_what_a_killed_writer_leaves_is_removed(tmp_path):
    writer = """
import os, sys
from smoothdescent.files import atomic_path
with atomic_path(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), 9)
"""
    kept = [tmp_path / "state.json", tmp_path / ".hidden.json", tmp_path / ".nfs0123456789ab"]
    for path in kept:
        path.touch()
    subprocess.run([sys.executable, "-c", writer, tmp_path / "state.json"])
    assert len(list(tmp_path.iterdir())) == len(kept) + 1
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    remove_unfinished(tmp_path / "absent")


def test_what_safetensors_leaves_when_it_is_killed_is_removed(tmp_path):
    writer = """
import resource, signal, sys, torch
from pathlib import Path
from smoothdescent.networks.weights import save_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # kills the process that writes beyond the limit
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save_tensors(Path(sys.argv[1]), {"a": torch.zeros(10000)}, {})
"""
    path = tmp_path / "e1.safetensors"
    killed = subprocess.run([sys.executable, "-c", writer, path], capture_output=True)
    assert killed.returncode == -signal.SIGXFSZ
    assert list(tmp_path.iterdir())
    remove_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_many_open_files_are_no_damage(tmp_path):
    """The file that cannot be opened is left where it is."""
    path = tmp_path / "a.json"
    write_json(path, {"a": "b"})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"), made_again(path):
            read_metadata(path)
        with pytest.raises(UserError, match=r"b\.json: too many files are open; raise the limit"):
            write_json(tmp_path / "b.json", {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert read_metadata(path) == {"a": "b"}
