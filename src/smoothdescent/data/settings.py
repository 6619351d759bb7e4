"""Settings given on a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smoothdescent.errors import UserError


def read_settings(text: str) -> dict[str, Any]:
    """Return the mapping that `text` holds: JSON if it starts with a brace, else a file's name.

    The file is YAML or JSON.

    Raises:
        UserError: the text or the file cannot be read, or does not hold a mapping.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"argument --settings is not valid JSON: {error}") from None
    import yaml  # which the library alone does not need

    path = Path(text)
    if not path.is_file():
        raise UserError(
            f"argument --settings is {text!r}; expected JSON in braces, or an existing YAML file"
        )
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not hold a mapping of keys to values")
    return settings
