"""The constants of the tangent Hessian norm, applied when a table is aggregated (equation 5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from smoothdescent.errors import UserError

NORMALISATIONS = ("equation5", "rms")


def hessian_norm(
    hessian_sumsq: Any, jitters: int, step_size: float, normalisation: str = "equation5"
) -> Any:
    """Return the tangent Hessian norm of stored values, at any volume.

    `equation5` is sqrt(sumsq) / (M^2 delta^2); `rms` is sqrt(sumsq / M) / delta, which estimates
    the curvature's size without shrinking as M grows.

    Args:
        hessian_sumsq: the column of a sharpness table: a number, an array or a data frame's column.
        jitters: the number M of jitters that were measured.
        step_size: the step delta that was measured with.
        normalisation: `equation5` or `rms`.

    Returns:
        The norm, of the same kind and shape as `hessian_sumsq`.

    Raises:
        UserError: unknown normalisation, no jitters, or a step that is not positive.
    """
    if jitters < 1 or not step_size > 0:
        raise UserError(
            f"jitters is {jitters} and step_size is {step_size}; expected at least 1 jitter and a "
            "positive step"
        )
    if normalisation == "equation5":
        constant = 1 / (jitters**2 * step_size**2)
    elif normalisation == "rms":
        constant = 1 / (math.sqrt(jitters) * step_size)
    else:
        raise UserError(
            f"normalisation is {normalisation!r}; expected one of {', '.join(NORMALISATIONS)}"
        )
    return constant * np.sqrt(hessian_sumsq)
