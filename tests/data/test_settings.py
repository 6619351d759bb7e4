from __future__ import annotations

import re
from pathlib import Path

import pytest

from smoothdescent.data.settings import read_settings
from smoothdescent.errors import UserError


def test_json() -> None:
    assert read_settings(' {"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("text", ["a: [1, null]\n", '{"a": [1, null]}'])
def test_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(text)
    assert read_settings(str(path)) == {"a": [1, None]}


def test_faulty_json() -> None:
    with pytest.raises(UserError, match="argument --settings is not valid JSON: Expecting"):
        read_settings('{"a": }')


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"argument --settings is 'none.yaml'; expected JSON in"):
        read_settings("none.yaml")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"a: [1", "block.yaml is not valid YAML"),
        (b"\xff\xfe\xfa", "block.yaml is not valid YAML"),
        (b"- 1\n", "block.yaml does not hold a mapping"),
        (b"", "block.yaml does not hold a mapping"),
    ],
)
def test_faulty_file(tmp_path: Path, contents: bytes, message: str) -> None:
    path = tmp_path / "block.yaml"
    path.write_bytes(contents)
    with pytest.raises(UserError, match=re.escape(message)):
        read_settings(str(path))
