"""Every command in the documents' shell blocks exists, with the options that it is given there.

Snakemake's, those in tables too, are tried as dry runs, in a folder with the files that they name;
what they do, and the other pages' examples, are tested beside what they are about.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.conftest import encode, write_shard
from workflow.study import REPOSITORY

from smoothdescent.cli import parse

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
IMAGES = ("my/cifar10", "my/cifar100")
NEED_RESULTS = {"--report", "--generate-unit-tests"}


def documented(program):
    """Return the command lines of a program, without comments, and the documents they are in."""
    found = {}
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ")
        lines = blocks.splitlines()
        if program == "snakemake":  # tables name the other programs' commands without options
            lines += re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|.*", text, re.M)))
        for line in lines:
            words = tuple(shlex.split(line, comments=True)) if line.startswith(program) else ()
            # What is shortened is no command; reports and the like need results, and are tested
            # where there are some.
            if words[:1] == (program,) and "..." not in line and not NEED_RESULTS & {*words}:
                found[tuple(word for word in words if word != "-n")] = document.name
    assert found
    return [pytest.param(list(words), id=f"{name}: {' '.join(words)}"[:100])
            for words, name in found.items()]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone's own files, and what the examples name."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "src"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name in IMAGES:
        (folder / name).mkdir(parents=True)
        for split in ("train", "test"):
            images = [encode(np.zeros((32, 32, 3), np.uint8))] * 2
            write_shard(
                folder / name / f"{split}-00000-of-00001.parquet", images, {"label": [0, 1]}
            )
    (folder / "mine.yaml").write_text("scale: demo\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", documented("snakemake"))
def test_snakemake(folder, words):
    if "dump_config" not in words:  # which only prints
        words = [*words, "-n"]
    line = [Path(sys.executable).with_name("snakemake"), *words[1:]]
    line = [str(word).replace("path: PATH", f"path: {IMAGES[0]}") for word in line]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", documented("smoothdescent"))
def test_smoothdescent(words):
    parse(words[1:])


@pytest.mark.parametrize("words", documented("make"))
def test_make(words):
    done = subprocess.run(
        ["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", documented("python"))
def test_python(words):
    script, *options = words[1:]
    done = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for option in (word for word in options if word.startswith("--")):
        assert option in done.stdout
