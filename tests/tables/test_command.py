"""Means over all, clean and noisy samples, and what is missing."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from smoothdescent.config.load import read_yaml, resolve
from smoothdescent.tables.command import checkpoint_means, with_hessian_norm

NAME = "convnet-cifar10-noise20"


@pytest.fixture
def experiment(request):
    config = read_yaml(request.config.rootpath / "config.yaml")
    config["scales"]["demo"]["experiments"][NAME] |= {
        "epochs": 4,
        "snapshots": [1],
        "final_snapshots": {"count": 1, "every": 1},
    }
    return resolve(config).experiments[NAME]


def checkpoint(samples, volumes, noisy):
    draw = np.random.default_rng(0)
    rows = samples * volumes
    return pd.DataFrame(
        {
            "experiment": NAME,
            "width": 3,
            "seed": 1,
            "epoch": 4,
            "sample_id": np.repeat(np.arange(samples), volumes),
            "is_noisy": np.repeat(np.arange(samples) < noisy, volumes),
            "volume": np.tile(np.arange(volumes), samples),
            **{
                name: draw.random(rows)
                for name in ("accuracy", "crossentropy", "jacobian_norm", "hessian_sumsq")
            },
            "path_length": draw.random(rows),
        }
    )


@pytest.mark.parametrize("noisy", [0, 4, 10])
def test_means_of_subsets(tmp_path, experiment, noisy):
    table = checkpoint(10, 3, noisy)
    measured = with_hessian_norm(tmp_path / "t.parquet", pa.Table.from_pandas(table), experiment)
    means = checkpoint_means(measured)
    present = {"all"} | ({"clean"} if noisy < 10 else set()) | ({"noisy"} if noisy else set())
    assert set(means["subset"]) == present
    assert len(means) == 3 * len(present)
    for _, row in means.iterrows():
        chosen = table[table["volume"] == row["volume"]]
        if row["subset"] != "all":
            chosen = chosen[chosen["is_noisy"] == (row["subset"] == "noisy")]
        assert row["samples"] == len(chosen)
        assert row["jacobian_norm"] == pytest.approx(chosen["jacobian_norm"].sum() / len(chosen))
        # Equation 5 with M = 4 and delta = 0.1: 1 / (M^2 delta^2) = 6.25.
        hessian = 6.25 * np.sqrt(chosen["hessian_sumsq"]).sum() / len(chosen)
        assert row["hessian_norm"] == pytest.approx(hessian)
