"""An experiment's two tables, read, and the selections of them that figures plot."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdescent.errors import UserError
from smoothdescent.files import (
    made_again,
    read_bytes,
    read_table,
    sha256_bytes,
    table_metadata,
)
from smoothdescent.tables.columns import (
    HISTORY_COLUMNS,
    KEYS,
    MEASURES,
    SHARPNESS_KEYS,
    describe,
    measures_of,
)
from smoothdescent.tables.convergence import unsettled_runs
from smoothdescent.tables.threshold import (
    disagreements,
    interpolation_threshold,
    late_accuracies,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SUMMARIES = ("history", "sharpness")  # the tables that figures, verdict and page read


@dataclass(frozen=True)
class ExperimentTables:
    """The tables of one experiment, with the resolved configuration stored in them.

    `config` is the experiment's block, and under `dataset` that of its data set. `final_epochs` are
    those of the final checkpoints; of none, the last of each table counts. `partial` says on how
    many runs partial tables rest, such as '14 of 24 runs'; it is empty for all others.
    """

    name: str
    history: pd.DataFrame
    sharpness: pd.DataFrame
    config: dict[str, Any] = field(default_factory=dict)
    normalisation: str = "equation5"
    sources: dict[str, Any] = field(default_factory=dict)
    final_epochs: Sequence[int] = ()
    partial: str = ""

    @cached_property
    def threshold(self) -> int | None:
        """The interpolation threshold, a base width, or None."""
        accuracy, statistic = self.fitting
        return interpolation_threshold(self.late_accuracies, accuracy, statistic)

    @property
    def fitting(self) -> tuple[float, str]:
        """What counts as fitting the training labels: an accuracy, and the statistic that it is."""
        settings = {"accuracy": 0.9995, "statistic": "median", **self.config.get("threshold", {})}
        return settings["accuracy"], settings["statistic"]

    @cached_property
    def late_accuracies(self) -> pd.Series:
        """The training accuracy of each run, by (width, seed), late in its training."""
        return late_accuracies(self.history, self.final_epochs, self.fitting[1])

    @property
    def threshold_note(self) -> str:
        """Say why no threshold is marked, and at which widths seeds disagree; empty if neither."""
        notes = [] if self.threshold is not None else [self._no_threshold()]
        mixed = disagreements(self.late_accuracies, self.fitting[0])
        if mixed:
            widths = ", ".join(f"{w} ({fit} of {runs} fit)" for w, (fit, runs) in mixed.items())
            notes.append(f"seeds disagree at w\u00a0= {widths}")
        return "; ".join(notes)

    def _no_threshold(self) -> str:
        accuracy, statistic = self.fitting
        widths = self.late_accuracies.groupby("width").agg(statistic)
        if widths.empty:
            return "no width interpolates (no training accuracy yet)"
        # Cut, not rounded: an accuracy below 100 % never reads as 100 %.
        percents = (1000 * widths).astype(int) / 10
        if (widths < accuracy).all():
            text = f"no width interpolates (highest training accuracy {percents.max():g}\u00a0% at "
            return text + f"w\u00a0=\u00a0{widths.idxmax()})"
        last = widths.index[-1]
        text = f"no threshold, w\u00a0=\u00a0{last} does not interpolate (training accuracy "
        return text + f"{percents[last]:g}\u00a0%)"

    @cached_property
    def unsettled(self) -> dict[tuple[int, int], str]:
        """How runs fail to converge, by (width, seed) (see `unsettled_runs`)."""
        return unsettled_runs(self.history)

    @property
    def bands(self) -> str:
        """What bands of figures are: `std` or `interval`."""
        return self.config.get("bands", "std")

    @property
    def stopped_widths(self) -> list[int]:
        """The widths of which a run stopped training before its last epoch (`stop_below`)."""
        if "stopped" not in self.history:
            return []
        return sorted({*self.history.loc[self.history["stopped"], "width"].astype(int)})

    @cached_property
    def incomplete_widths(self) -> dict[int, int]:
        """The widths that partial tables lack runs of, each with the number of runs that it has."""
        if not self.partial:
            return {}
        runs = self.history.groupby("width")["seed"].nunique()
        counts = {width: int(runs.get(width, 0)) for width in self.config["widths"]}
        return {w: count for w, count in counts.items() if count < len(self.config["seeds"])}

    @property
    def partial_note(self) -> str:
        """Say on how many runs partial tables rest, and which are missing."""
        widths = self.incomplete_widths.items()
        none = ", ".join(f"{width}" for width, count in widths if not count)
        some = ", ".join(f"{width} ({count})" for width, count in widths if count)
        notes = [
            self.partial,
            f"none at w\u00a0= {none}" if none else "",
            f"not all {len(self.config['seeds'])} seeds at w\u00a0= {some}" if some else "",
        ]
        return ", ".join(filter(None, notes))

    @property
    def title(self) -> str:
        """Network, data set and label noise in words, or the experiment's name."""
        if not {"network", "data"} <= self.config.keys():
            return self.name
        network = self.config["network"]
        network = {"convnet": "ConvNet", "resnet18": "ResNet18"}.get(network, network)
        dataset = self.config["data"]["dataset"]
        names = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
        if self.config.get("dataset", {}).get("source") == "procedural":
            names.setdefault(dataset, "procedural images")
        dataset = names.get(dataset, dataset)
        noise = self.config.get("noise")
        if noise is None:
            return f"{network}, {dataset}"
        noise_text = f"{100 * noise['rate']:g} % label noise"
        if noise["kind"] == "asymmetric":
            noise_text += f" in {noise['classes']} classes"
        # No-break spaces: where the title is wrapped, it breaks after a comma.
        return f"{network}, {dataset}, " + noise_text.replace(" ", "\u00a0")

    @property
    def volumes(self) -> list[int]:
        """The volumes that were measured, in order."""
        return sorted(int(volume) for volume in self.sharpness["volume"].unique())

    @property
    def measures(self) -> list[str]:
        """The paper's four measures, which panels are laid out for, and those of the user."""
        return [*dict.fromkeys([*MEASURES, *measures_of(self.sharpness)])]

    @property
    def volume_strengths(self) -> tuple[str, list[str]]:
        """What a strength counts, and the strength at which each volume ends ('' if unknown)."""
        paths = self.config.get("measure", {}).get("paths", {})
        quantity = {"svd": "singular values erased", "shift": "pixels shifted"}
        strengths = [0, *paths.get("strengths", [])]
        known = paths.get("family") in quantity
        return quantity.get(paths.get("family"), ""), [
            f"{strengths[k]:g}" if known and k < len(strengths) else "" for k in self.volumes
        ]


def add_tables_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--tables`, the folders that `read_all_tables` reads."""
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="results folders of experiments, each with history.parquet and sharpness.parquet",
    )


def read_all_tables(folders: list[Path]) -> dict[str, ExperimentTables]:
    """Read the results folders of several experiments; return their tables by name.

    Raises:
        UserError: two folders hold the same experiment, or see `read_tables`.
    """
    found: dict[str, tuple[Path, ExperimentTables]] = {}
    for folder in folders:
        experiment = read_tables(folder)
        if experiment.name in found:
            raise UserError(
                f"the experiment {experiment.name} is given twice: {found[experiment.name][0]} and "
                f"{folder}"
            )
        found[experiment.name] = (folder, experiment)
    return {name: experiment for name, (_, experiment) in found.items()}


def partial_note(experiments: Iterable[ExperimentTables]) -> str:
    """Say that what is made from partial tables is partial; empty if none of them are."""
    notes = [f"{e.name}: {e.partial_note}" for e in experiments if e.partial]
    if not notes:
        return ""
    return (
        "Partial: this is made from the runs that have ended so far, and the others may change any "
        f"curve, threshold or result of it. {'; '.join(notes)}."
    )


def read_tables(folder: str | Path, partial: bool = False) -> ExperimentTables:
    """Read `history.parquet` and `sharpness.parquet` of one experiment's results folder.

    Args:
        folder: it.
        partial: expect partial tables (see `tables.partial`), which are refused otherwise.

    Raises:
        UserError: a table is missing; or is damaged, or not gathered together with the other, and
            is set aside.
    """
    paths = {table: Path(folder) / f"{table}.parquet" for table in SUMMARIES}
    history, sha256 = _read(paths["history"], [*KEYS, "train_accuracy_all", "test_error"], partial)
    sharpness, sharpness_sha256 = _read(paths["sharpness"], SHARPNESS_KEYS, partial)
    said = {
        "history": table_metadata(history.schema),
        "sharpness": table_metadata(sharpness.schema),
    }
    sources = {
        table: {"sha256": checksum, "config_hash": said[table]["config_hash"]}
        for table, checksum in (("history", sha256), ("sharpness", sharpness_sha256))
    }
    gathered_with = json.loads(said["sharpness"]["companions"])["history.parquet"]
    if gathered_with != sha256:
        with made_again(paths["sharpness"]):
            raise UserError(f"{paths['sharpness']} was not gathered together with its history")
    return ExperimentTables(
        name=said["history"]["experiment"],
        history=history.to_pandas(),
        sharpness=sharpness.to_pandas(),
        config={
            **json.loads(said["history"]["experiment_config"]),
            "dataset": _sizes(said["history"]) | json.loads(said["history"]["dataset_config"]),
        },
        normalisation=said["sharpness"]["hessian_normalisation"],
        sources=sources,
        final_epochs=json.loads(said["history"]["final_epochs"]),
        partial=said["history"].get("runs", ""),
    )


def _sizes(said: dict[str, str]) -> dict[str, int]:
    """Return what a table says of its images in the words of the procedural ones' block.

    Tables of earlier versions say nothing.
    """
    keys = {"classes": "num_classes", "size": "image_size"}
    return {word: int(said[key]) for word, key in keys.items() if key in said}


def table_kind(table: str, partial: bool | str) -> str:
    """Return what a table says that it is: one that is partial stands in for no other."""
    return f"partial {table}" if partial else table


def _read(path: Path, columns: Sequence[str], partial: bool) -> tuple[pa.Table, str]:
    """Return a table and the checksum of its file."""
    with made_again(path):
        content = read_bytes(path, "Parquet file")
        expected = {"table": table_kind(path.stem, partial)}
        table = read_table(path, expected=expected, content=content)
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise UserError(f"{path} has no column {missing[0]!r}")
        return table, sha256_bytes(content)


def over_seeds(frame: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    """Average a column over the rows of each run, which are its checkpoints, and then over seeds.

    Args:
        frame: one row per (keys, seed, epoch).
        keys: the columns that stay.
        name: the column to average; runs with a value that is missing or not finite are left out.

    Returns:
        The keys, `mean`, `std` and `within` in the column's unit, and `seeds` (how many runs have
        a value), one row per combination of keys that occurs, sorted; no rows if there is no such
        column. `std` is the sample standard deviation of the runs' means, missing for a single
        seed; `within` that of the checkpoints of one run, its variance averaged over runs, missing
        for a single checkpoint.
    """
    if name not in frame.columns:
        frame = frame.iloc[:0].assign(**{name: np.empty(0)})
    means = run_means(frame, [*keys, "seed"], [name])
    means["variance"] = frame.groupby([*keys, "seed"])[name].var().to_numpy()
    means.loc[~np.isfinite(means[name]), [name, "variance"]] = np.nan
    groups = means.groupby(keys)
    statistics = groups[name].agg(["mean", "std"])
    statistics["within"] = np.sqrt(groups["variance"].mean())
    statistics *= describe(name).scale
    statistics["seeds"] = groups[name].count()
    return statistics.reset_index()


def run_means(frame: pd.DataFrame, keys: list[str], names: list[str]) -> pd.DataFrame:
    """Average columns over the rows with the same keys; one missing value makes a mean missing."""
    groups = frame.groupby(keys)[names]
    return groups.mean().where(groups.count().eq(groups.size(), axis=0)).reset_index()


def final_errors(experiment: ExperimentTables, name: str) -> pd.DataFrame:
    """Return an error at the end of training against width: `over_seeds` by `width`.

    Args:
        experiment: the tables.
        name: a column of the history, or `train_error`, one minus the training accuracy.
    """
    final = _final_evaluations(experiment)
    final = final.assign(train_error=1.0 - final["train_accuracy_all"])
    return over_seeds(final, ["width"], name)


def final_history(experiment: ExperimentTables) -> pd.DataFrame:
    """Return the exact losses, accuracies and errors at the end of training.

    Returns:
        One row per (width, seed), sorted: the mean of the evaluations at the final checkpoints.
    """
    final = _final_evaluations(experiment)
    names = [name for name in HISTORY_COLUMNS if name in final and name != "epoch"]
    return run_means(final, ["width", "seed"], names)


def _final_evaluations(experiment: ExperimentTables) -> pd.DataFrame:
    return _final(experiment, experiment.history.dropna(subset=["train_accuracy_all"]))


def final_volumes(experiment: ExperimentTables, name: str, subset: str) -> pd.DataFrame:
    """Return a measure over every volume at the end of training against volume and width."""
    return over_seeds(_final_checkpoints(experiment, subset), ["volume", "width"], name)


def final_rows(experiment: ExperimentTables, subset: str) -> pd.DataFrame:
    """Return the measures at the end of training, averaged over a subset of samples.

    Returns:
        One row per (volume, width, seed), sorted: the mean of the final checkpoints.
    """
    names = measures_of(experiment.sharpness)
    return run_means(_final_checkpoints(experiment, subset), ["volume", "width", "seed"], names)


def _final_checkpoints(experiment: ExperimentTables, subset: str) -> pd.DataFrame:
    table = experiment.sharpness
    return _final(experiment, table[table["subset"] == subset])


def _final(experiment: ExperimentTables, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the final checkpoints."""
    epochs = experiment.final_epochs or [table["epoch"].max()]
    return table[table["epoch"].isin(epochs)]


def training_course(experiment: ExperimentTables, name: str) -> pd.DataFrame:
    """Return a measure at the training points, or the test error, against epoch and width."""
    return over_seeds(course_rows(experiment, name), ["epoch", "width"], name)


def course_rows(experiment: ExperimentTables, name: str) -> pd.DataFrame:
    """Return the rows that have a measure at the training points, or the test error, over epochs.

    The test error comes from every evaluation of the history, the measures from the snapshots.
    Epoch 0 is left out: it has no place on a logarithmic axis.
    """
    if name == "test_error":
        table = experiment.history
        table = table.dropna(subset=[name]) if name in table else table.iloc[:0]
    else:
        table = experiment.sharpness
        table = table[(table["subset"] == "all") & (table["volume"] == 0)]
    return table[table["epoch"] > 0]
