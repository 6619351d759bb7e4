"""The columns of an experiment's tables, and how each quantity is written and drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KEYS = ("experiment", "width", "seed", "epoch")
# What a training records of each epoch; errors by class are NaN unless the noise is asymmetric.
HISTORY_COLUMNS = (
    *("epoch", "learning_rate", "train_loss", "train_accuracy"),
    *("train_loss_all", "train_loss_clean", "train_loss_noisy"),
    *("train_accuracy_all", "train_accuracy_clean", "train_accuracy_noisy"),
    *("test_loss", "test_error", "test_error_corrupted", "test_error_unperturbed"),
)
SHARPNESS_KEYS = (*KEYS, "subset", "volume")
_NOT_MEASURES = {
    *(
        *SHARPNESS_KEYS,
        "sample_id",
        "label",
        "label_true",
        "is_noisy",
        "fitted_since",
        "parameters",
        "threshold",
        "stopped",
        "diverged",
        "samples",
        "path_length",
    ),
}
# Of a checkpoint. The constants that make the sum of squares the Hessian norm are applied when the
# tables are gathered.
STANDARD_MEASURES = ("accuracy", "crossentropy", "jacobian_norm", "hessian_sumsq")


@dataclass(frozen=True)
class Column:
    """A quantity in an experiment's tables.

    Attributes:
        title: its name above a panel.
        text: its name in a sentence.
        unit: of the values times `scale`; empty if it is not known.
        scale: factor from the table to figures and verdict, 100 for per cent.
        norm: positive, and changes by orders of magnitude, its noise with it: compared as ratios,
            and drawn on a logarithmic axis where curves lie far apart.
        short: its name beside similar ones; default: `title`.
        beside_test: its title beside the test error's; default: `title`.
    """

    title: str
    text: str
    unit: str = ""
    scale: float = 1.0
    norm: bool = False
    short: str = ""
    beside_test: str = ""

    @property
    def label(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def difference_unit(self) -> str:
        """The unit of a difference between two values; a norm's is left open."""
        return "units" if self.norm else self.unit.replace("%", "percentage points")


# The input is the normalised image. The tangent Hessian is a difference of Jacobians divided by a
# pure number, so both norms have the same unit.
_NORM = {"unit": "nats per unit input", "norm": True}
_SHARE = {"unit": "%", "scale": 100.0}
MEASURES = {
    "accuracy": Column("Training accuracy", "accuracy", **_SHARE),
    "crossentropy": Column(
        "Cross-entropy", "cross-entropy", "nats", beside_test="Training cross-entropy"
    ),
    "jacobian_norm": Column("Jacobian norm", "Jacobian norm", **_NORM),
    "hessian_norm": Column("Hessian norm", "Hessian norm", **_NORM),
}
NORMS = tuple(name for name, column in MEASURES.items() if column.norm)
ERRORS = {
    "test_error": Column("Test error", "test error", short="test error", **_SHARE),
    "train_error": Column("Training error", "training error", short="training error", **_SHARE),
    **{
        f"test_error_{kind}": Column(
            f"Test error, {kind} classes",
            f"test error on {kind} classes",
            short=f"{kind} classes",
            **_SHARE,
        )
        for kind in ("corrupted", "unperturbed")
    },
}


def describe(name: str) -> Column:
    """Return what is known of a column; a measure that a user has registered goes by its name."""
    words = name.replace("_", " ")
    known = MEASURES.get(name) or ERRORS.get(name)
    return known or Column(words[:1].upper() + words[1:], words)


def measures_of(columns: Iterable[str]) -> list[str]:
    """Return the measures among the columns of a table of sharpness, in its order."""
    return [name for name in columns if name not in _NOT_MEASURES]


def check_measures(paths: list[str]) -> None:
    """Check which measures a configuration asks for.

    Args:
        paths: standard measures, or import paths `package.module:name` of the user's.

    Raises:
        ValueError: none, an unknown or repeated one, or the name of another column.
    """
    taken = {*STANDARD_MEASURES, *MEASURES, *_NOT_MEASURES}
    own = [name for _, colon, name in (path.rpartition(":") for path in paths) if colon]
    unknown = [path for path in paths if ":" not in path and path not in STANDARD_MEASURES]
    if unknown or not paths:
        raise ValueError(
            f"measures is {paths}, expected some of {', '.join(STANDARD_MEASURES)}, and import "
            "paths of your own such as my_measures:margin"
        )
    if len({*paths}) < len(paths) or len({*own} - taken) < len(own):
        raise ValueError(f"measures is {paths}, expected each name once, and no other column's")
