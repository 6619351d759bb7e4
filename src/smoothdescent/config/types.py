"""What blocks of the configuration are made of; imports little, so that every stage can use it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

# No number of things of a study comes near this; a slip of the keyboard does.
MOST = 10_000_000


def _countable(value: int) -> int:
    if value > MOST:
        raise ValueError(f"found {value}; expected at most {MOST}")
    return value


# A validator and not `le`, which would hide the lower limit of a field of this type.
Natural = Annotated[int, Field(ge=1, strict=True), AfterValidator(_countable)]
Count = Annotated[int, Field(ge=0, strict=True), AfterValidator(_countable)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]  # stored as int64
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", strict=True)]


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 (no dot) as a string; every other string stays what it is, an error.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value.strip()):
        return float(value)
    return value


Real = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]


def _place(value: Any) -> Any:
    """Replace `~` and variables in a path, as a shell would."""
    if not isinstance(value, str):
        return value
    with_variables = os.path.expandvars(value)
    try:
        expanded = str(Path(with_variables).expanduser()) if with_variables else ""
    except RuntimeError:
        raise ValueError(f"{value!r} names a user who is not known here") from None
    if "$" in expanded:
        raise ValueError(f"{value!r} names a variable that is not set")
    return expanded


def _plain(value: str) -> str:
    odd = sorted(set(re.findall(r"[^\w./@%+=:,-]", value)))
    if odd or not value:
        raise ValueError(
            f"found {value!r}; expected a path of letters, digits and . / _ - @ % + = : , because "
            "jobs name it to the shell" + (f", not {' '.join(map(repr, odd))}" if odd else "")
        )
    return value


Place = Annotated[str, BeforeValidator(_place)]
PlainPlace = Annotated[Place, AfterValidator(_plain)]


class Block(BaseModel):
    """A closed, immutable block of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
