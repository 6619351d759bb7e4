"""What the columns of a study's tables mean: `docs/tables.md` is written from this.

python -m smoothdescent.tables.dictionary docs/tables.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from smoothdescent.files import write_text
from smoothdescent.tables.columns import HISTORY_COLUMNS, MEASURES, Column, describe

BEGIN, END = "<!-- columns: begin -->\n", "<!-- columns: end -->\n"


@dataclass(frozen=True)
class Table:
    """A kind of table: its file below `results/<scale>/<experiment>/`, a row, and its columns."""

    file: str
    row: str
    columns: dict[str, str]


def _measure(name: str) -> str:
    return _in_table(MEASURES[name])


def _in_table(about: Column) -> str:
    """Say what a quantity is and in which unit the tables have it, where figures may differ."""
    unit = "fraction" if about.unit == "%" else about.unit
    return f"{about.text} ({unit})"


_RUN = {
    "experiment": "a key of `experiments`",
    "width": "base width w",
    "seed": "training seed",
    "epoch": "epochs trained; 0 is the untrained network",
}
_SAMPLE = {
    "sample_id": "position in the data set's training images, from 0",
    "is_noisy": "the label trained on is not the true one",
}
_KINDS = ("all", "clean", "noisy")
_HISTORY = {
    "learning_rate": "of the epoch's last step; 0 once the run has stopped (`stop_below`)",
    "train_loss": "mean over the epoch's batches, while the weights change, on the labels trained "
    "on (nats)",
    "train_accuracy": "likewise (fraction)",
    **{f"train_loss_{kind}": f"exact loss over {kind} training samples (nats)" for kind in _KINDS},
    **{
        f"train_accuracy_{kind}": f"exact accuracy over {kind} training samples (fraction)"
        for kind in _KINDS
    },
    "test_loss": "exact loss over the test images, on their true labels (nats)",
    **{n: _in_table(describe(n)) for n in HISTORY_COLUMNS if n.startswith("test_error")},
}
_LABELS = {"label_true": "class of the data set, from 0", "label": "class trained on"}
_PARAMETERS = {"parameters": "trainable parameters of the network"}
_THRESHOLD = {"threshold": "the experiment's interpolation threshold, a base width; empty if none"}
_ENDED = {
    "stopped": "the weights are those at which the run stopped training",
    "diverged": "a loss has become NaN or infinite by then: the row has no values",
}
_VOLUME = {"volume": "k; 0 is the training point, k the paths up to the k-th augmentation"}
_LENGTH = {"path_length": "of the paths up to there, over directions (norm of normalised inputs)"}

TABLES = (
    Table(
        "labels.parquet",
        "training or validation image",
        {
            "sample_id": _SAMPLE["sample_id"],
            **_LABELS,
            "is_noisy": _SAMPLE["is_noisy"],
            "split": "`train` or `validation`",
        },
    ),
    Table(
        "history.parquet",
        "run and epoch; the exact columns are empty between evaluations",
        {
            **_RUN,
            **{name: _HISTORY[name] for name in HISTORY_COLUMNS if name != "epoch"},
            **_PARAMETERS,
            **_ENDED,
            "warning": "how the run fails to converge; empty if it does",
            **_THRESHOLD,
        },
    ),
    Table(
        "sharpness.parquet",
        "run, checkpoint, subset of samples and volume: means over samples (equation 7)",
        {
            **_RUN,
            **_PARAMETERS,
            "subset": "`all`, `clean` or `noisy` samples",
            **_VOLUME,
            "samples": "how many the mean is over",
            **{name: _measure(name) for name in MEASURES},
            **_LENGTH,
            **_ENDED,
            **_THRESHOLD,
        },
    ),
    Table(
        "samples.parquet",
        "run, measured training sample and volume: means over the final checkpoints",
        {
            **{name: text for name, text in _RUN.items() if name != "epoch"},
            "sample_id": _SAMPLE["sample_id"],
            **{name: _LABELS[name] for name in ("label", "label_true")},
            "is_noisy": _SAMPLE["is_noisy"],
            "fitted_since": "first epoch from which every exact evaluation finds it fitted; empty "
            "if the last does not, or the run has diverged",
            **_VOLUME,
            **{name: _measure(name) for name in MEASURES},
        },
    ),
    Table(
        "runs/w4_s0/sharpness/e10.parquet",
        "measured sample and volume of a checkpoint",
        {
            **_RUN,
            **_SAMPLE,
            **_VOLUME,
            **{name: _measure(name) for name in MEASURES if name != "hessian_norm"},
            "hessian_sumsq": "the sum of squares of equation 5, without its constants; "
            "`smoothdescent.sharpness.hessian_norm` applies them",
            **_LENGTH,
        },
    ),
)


def to_markdown() -> str:
    """Return the columns of all tables in Markdown."""
    parts = []
    for table in TABLES:
        rows = [f"| `{name}` | {text} |" for name, text in table.columns.items()]
        head = ["| column | meaning |", "| --- | --- |"]
        parts.append("\n".join([f"**`{table.file}`**: a row is a {table.row}.", "", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def with_columns(page: str) -> str:
    """Return a page with its marked part written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{to_markdown()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_text(path, with_columns(path.read_text(encoding="utf-8")))
