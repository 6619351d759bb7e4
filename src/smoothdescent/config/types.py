"""What blocks of the configuration are made of: the base class, and types with a range."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Natural = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", strict=True)]


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 (no dot) as a string; every other string stays what it is, an error.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value.strip()):
        return float(value)
    return value


Real = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]


class Block(BaseModel):
    """A closed, immutable block of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
