"""Each training sample of a run: since when it is fitted, and how sharp the loss is around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from smoothdescent.config.schema import Experiment, ResolvedExperiment
from smoothdescent.tables.columns import measures_of
from smoothdescent.tables.experiment import run_means


def fitted_since(history: pa.Table, samples: int) -> np.ndarray:
    """Return the epoch of the evaluation from which on every one finds a sample fitted.

    Args:
        history: that of a run, in order of its epochs. Its column `fitted` has, for each exact
            evaluation, a bit per training sample, in order of `sample_id`
            (`training.run.Run.fitted`).
        samples: how many training samples there are, N.

    Returns:
        int64 [N]; -1 for a sample that the last evaluation finds wrong, and for all of a run that
        has diverged: it has no evaluation at its end.
    """
    evaluated = history.filter(pc.is_valid(history["fitted"]))
    epochs = evaluated["epoch"].to_numpy()
    if epochs[-1] != history["epoch"][-1].as_py():
        return np.full(samples, -1)
    packed = np.frombuffer(b"".join(evaluated["fitted"].to_pylist()), np.uint8)
    # [evaluations, N]
    fitted = np.unpackbits(packed.reshape(len(epochs), -1), axis=1, count=samples)
    lasting = np.logical_and.accumulate(fitted[::-1]).sum(axis=0)
    return np.append(epochs, -1)[len(epochs) - lasting]


def run_samples(final: Sequence[pd.DataFrame], samples: pd.DataFrame) -> pd.DataFrame:
    """Average the measures of each sample over the final checkpoints of a run.

    Args:
        final: their tables, with the Hessian norm.
        samples: a row for each training sample, by `sample_id`.

    Returns:
        One row for each measured sample and volume, with the columns of `samples`.
    """
    means = run_means(pd.concat(final), ["sample_id", "volume"], measures_of(final[0]))
    return means.merge(samples, how="left", on="sample_id")


def samples_schema(experiment: Experiment) -> pa.Schema:
    """Return the columns of the table of samples, in types that keep it small."""
    measures = [path.rpartition(":")[2] for path in experiment.measure.measures]
    measures = ["hessian_norm" if name == "hessian_sumsq" else name for name in measures]
    return pa.schema(
        {
            "experiment": pa.dictionary(pa.int32(), pa.string()),
            "width": pa.int32(),
            "seed": pa.int64(),
            "sample_id": pa.int32(),
            "label": pa.int32(),
            "label_true": pa.int32(),
            "is_noisy": pa.bool_(),
            "fitted_since": pa.int32(),
            "volume": pa.int16(),
            **{name: pa.float32() for name in measures},
        }
    )


def samples_table(
    rows: pd.DataFrame, resolved: ResolvedExperiment, run: tuple[int, int]
) -> pa.Table:
    """Return the samples of a run (`run_samples`), (width, seed), as they are written."""
    rows = rows.assign(
        experiment=pd.Categorical.from_codes(np.zeros(len(rows), np.int32), [resolved.name]),
        width=run[0],
        seed=run[1],
        fitted_since=rows["fitted_since"].astype("Int32").mask(rows["fitted_since"] < 0),
    )
    return pa.Table.from_pandas(rows, samples_schema(resolved.experiment), preserve_index=False)
