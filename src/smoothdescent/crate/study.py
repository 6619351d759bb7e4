"""What a finished study has made: read, proven whole and of one origin, before it is packed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoothdescent.config.load import parse_settings
from smoothdescent.config.schema import ResolvedExperiment
from smoothdescent.errors import UserError
from smoothdescent.figures import figures_of, shown_experiments
from smoothdescent.files import (
    canonical_json,
    check_companions,
    expect,
    read_metadata,
    read_table,
    sha256_file,
)
from smoothdescent.layout import run_name, snapshot_path
from smoothdescent.tables.experiment import SUMMARIES
from smoothdescent.tables.runs import runs_of
from smoothdescent.verdict.findings import Finding
from smoothdescent.verdict.report import summary

Metadata = dict[str, str]


@dataclass(frozen=True)
class FinishedStudy:
    """A study whose products are there, undamaged, and made from each other.

    Attributes:
        folder: `results/<scale>`.
        headline: the verdict in one sentence.
        experiments: by name, with the settings that their tables were made with.
        made_with: what the tables of each experiment say of their making.
        images: what the file of each data set says of it.
        figures: the names of the figures.
    """

    folder: Path
    headline: str
    experiments: dict[str, ResolvedExperiment]
    made_with: dict[str, Metadata]
    images: dict[str, dict[str, Any]]
    figures: list[str]

    @property
    def scale(self) -> str:
        """The scale, which the folder is named after."""
        return self.folder.absolute().name

    def place(self, path: Path) -> str:
        """Return where a file of the study lies in its crate: where it lay below the workflow."""
        return f"results/{self.scale}/{path.relative_to(self.folder).as_posix()}"

    @property
    def results(self) -> list[Path]:
        """The files of the verdict, the figures and the tables, and the page that shows them."""
        files = [self.folder / f"verdict.{suffix}" for suffix in ("md", "html", "parquet")]
        files.append(self.folder / "explore.html")
        for name in self.figures:
            stem = self.folder / "figures" / name
            files += [stem.with_name(f"{name}.{suffix}") for suffix in ("pdf", "png", "md")]
            files.append(stem.with_name(f"{name}.parquet"))
        for name in self.experiments:
            files += [self.folder / name / "config.yaml", *self.tables(name)]
        return files

    def tables(self, name: str) -> list[Path]:
        """Return the tables of an experiment."""
        return [self.folder / name / f"{t}.parquet" for t in ("labels", "samples", *SUMMARIES)]

    def weights(self) -> list[Path]:
        """Return the snapshots of all runs, each proven.

        Raises:
            UserError: one is missing, damaged or of other settings.
        """
        files = []
        with _of_a_finished_study(self.folder):
            for name, resolved in self.experiments.items():
                for path, facts in _snapshots(self.folder / name / "runs", resolved):
                    read_metadata(path, facts)
                    files.append(path)
        return files


def read_finished(folder: Path) -> FinishedStudy:
    """Read what a study says of itself, and make sure that it is finished.

    The verdict names the experiments, and the checksums of the tables that it was decided from.

    Args:
        folder: `results/<scale>`.

    Raises:
        UserError: a product is missing, damaged, or was not made from the others.
    """
    with _of_a_finished_study(folder):
        path = folder / "verdict.parquet"
        said = _read(path, {"table": "verdict"})
        sources = json.loads(said["sources"])
        findings = [Finding(**row) for row in read_table(path).to_pylist()]
        made_with = {name: _read_tables(folder / name, sources[name]) for name in sources}
        experiments = {name: _resolved(folder, said) for name, said in made_with.items()}
        images = {}
        for name, resolved in experiments.items():
            settings = canonical_json(resolved.label_settings)
            _read(folder / name / "labels.parquet", {"settings": settings})
            dataset = resolved.experiment.data.dataset
            images[dataset] = _read(folder / "data" / f"{dataset}.safetensors", {"name": dataset})
        figures = figures_of(list(sources))
        for figure in figures:
            shown = {name: sources[name] for name in shown_experiments(figure) if name in sources}
            facts = {"figure": figure, "sources": canonical_json(shown)}
            _read(folder / "figures" / f"{figure}.parquet", facts)
        study = FinishedStudy(folder, summary(findings), experiments, made_with, images, figures)
        _check_there(study.results)
    return study


@contextlib.contextmanager
def _of_a_finished_study(folder: Path) -> Iterator[None]:
    """Say of a product that is not as it should be what makes it."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"{error}; only a finished study is packed, and "
            f"`snakemake --config scale={folder.absolute().name}` finishes it"
        ) from None


def _read(path: Path, facts: dict[str, str]) -> dict[str, Any]:
    """Return what a file says of itself; it and those written with it are as they were."""
    said = read_metadata(path, facts)
    check_companions(path, said)
    return said


def _read_tables(folder: Path, sources: dict[str, dict[str, str]]) -> Metadata:
    """Return what an experiment's tables say of themselves; they are those of the verdict."""
    said: Metadata = {}
    for table in SUMMARIES:
        path = folder / f"{table}.parquet"
        said = _read(path, {"table": table, "experiment": folder.name})
        expect(path, {"sha256": sha256_file(path)}, {"sha256": sources[table]["sha256"]})
    return said


def _resolved(folder: Path, said: Metadata) -> ResolvedExperiment:
    """Return the settings that an experiment's tables were made with."""
    name = said["experiment"]
    settings = {"name": name, "experiment": json.loads(said["experiment_config"])}
    settings["dataset"] = json.loads(said["dataset_config"])
    source = str(folder / name / "sharpness.parquet")
    return parse_settings(ResolvedExperiment, canonical_json(settings), source)


def _snapshots(runs: Path, resolved: ResolvedExperiment) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the snapshots of an experiment, with what each should say of itself."""
    for run, epoch in itertools.product(runs_of(resolved), resolved.experiment.snapshot_epochs):
        path = snapshot_path(runs / run_name(*run), epoch)
        yield path, {**resolved.of_run(*run), "epoch": str(epoch)}


def _check_there(files: Iterable[Path]) -> None:
    """Look for the files that no table keeps the checksum of.

    Raises:
        UserError: one is missing or empty.
    """
    for path in files:
        if not path.is_file() or not path.stat().st_size:
            raise UserError(f"{path} is missing or empty")
