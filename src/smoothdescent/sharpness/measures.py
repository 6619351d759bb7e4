"""The measures, each a function of what was evaluated at a batch of points.

A new measure is one function with the decorator `register_measure`; `measure.measures` in
`config.yaml` asks for it by its import path.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from smoothdescent.errors import UserError
from smoothdescent.networks.compiled import kernels_on
from smoothdescent.sharpness.gradients import Evaluation
from smoothdescent.sharpness.precision import wide_dtype

MeasureFunction = Callable[[Evaluation], torch.Tensor]


@dataclass(frozen=True)
class Measure:
    """A registered measure.

    Attributes:
        name: the column of the table.
        function: maps an `Evaluation` of N points to N values.
        tangent: whether the function reads `Evaluation.tangent_gradients`.
        squared: whether the values are squares of the quantity that is integrated over volumes; the
            square of the integral is stored.
    """

    name: str
    function: MeasureFunction
    tangent: bool
    squared: bool


MEASURES: dict[str, Measure] = {}


def register_measure(
    name: str, *, tangent: bool = False, squared: bool = False
) -> Callable[[MeasureFunction], MeasureFunction]:
    """Register the decorated function as a measure.

    Args:
        name: the column of the table.
        tangent: whether the function reads `Evaluation.tangent_gradients`; without any such
            measure, the tangent points are not evaluated.
        squared: whether the values are squares of the quantity to integrate (see `Measure`).
    """

    def register(function: MeasureFunction) -> MeasureFunction:
        MEASURES[name] = Measure(name, function, tangent, squared)
        return function

    return register


def find_measures(names: Sequence[str]) -> list[Measure]:
    """Return the named measures.

    Args:
        names: registered names such as `jacobian_norm`, or `package.module:margin` for the `margin`
            that the module registers when it is imported.

    Raises:
        UserError: an unknown or repeated name, or none, or a module that cannot be imported.
    """
    names = tuple(_import_measure(name) for name in names)
    for name in names:
        if name not in MEASURES:
            raise UserError(
                f"measures names {name!r}; expected some of {', '.join(MEASURES)}, or a name "
                "registered with register_measure"
            )
    if not names or len(set(names)) != len(names):
        raise UserError(f"measures is {names}; expected at least one name, each once")
    return [MEASURES[name] for name in names]


def _import_measure(path: str) -> str:
    """Import the module of an import path, if it is one, and return the measure's name."""
    module, _, name = path.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
    except Exception as error:  # whatever a user's own module may raise
        raise UserError(f"measure {path!r} cannot be imported: {error}") from error
    return name


def measure_sources(names: Sequence[str]) -> set[str]:
    """Return the source files of measures, whose code determines results; see `find_measures`.

    Raises:
        UserError: one has none.
    """
    found = set()
    for measure in find_measures(names):
        try:
            found.add(str(Path(inspect.getsourcefile(measure.function))))
        except TypeError:  # a callable object, such as functools.partial
            raise UserError(
                f"measure {measure.name!r} is a {type(measure.function).__name__} without source "
                "code, expected a function"
            ) from None
    return found


@register_measure("accuracy")
def accuracy(evaluation: Evaluation) -> torch.Tensor:
    """Return 1 where the label has the largest logit, else 0."""
    return evaluation.correct


@register_measure("crossentropy")
def crossentropy(evaluation: Evaluation) -> torch.Tensor:
    """Return the cross-entropy in nats."""
    return evaluation.loss


@register_measure("jacobian_norm")
def jacobian_norm(evaluation: Evaluation) -> torch.Tensor:
    """Return the Frobenius norm of the loss's gradient in the normalised image (equation 1)."""
    gradient = evaluation.gradient
    return _distance(gradient[:, None], torch.zeros_like(gradient[:1]))


@register_measure("hessian_sumsq", tangent=True, squared=True)
def hessian_sumsq(evaluation: Evaluation) -> torch.Tensor:
    """Return sum_m ||J(x) - J(x + delta u_m)||^2, equation 5 without its constants."""
    return _distance(evaluation.tangent_gradients, evaluation.gradient) ** 2


def _distance(gradients: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
    """Return the root of the sum over M of the squared distances of gradients from an origin.

    Summed in float64: tiny squares must not vanish.

    Args:
        gradients: [N, M, C, H, W].
        origins: [N, C, H, W], or [1, C, H, W] for all.
    """
    if compiled := kernels_on("measuring", gradients, origins):
        # Views, where images are channels-last.
        gradients, origins = (x.movedim(-3, -1).flatten(-3) for x in (gradients, origins))
        origins = origins[:, None].expand_as(gradients)
        return compiled.squared_distances(gradients, origins).sum(dim=1).sqrt()
    wide = wide_dtype(gradients.device)
    return torch.linalg.vector_norm(gradients - origins[:, None], dim=(1, 2, 3, 4), dtype=wide)
