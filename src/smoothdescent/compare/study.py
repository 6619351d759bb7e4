"""The studies that are compared, read from their results folders."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from smoothdescent.errors import UserError
from smoothdescent.files import read_table
from smoothdescent.tables.experiment import SUMMARIES, ExperimentTables, read_all_tables
from smoothdescent.verdict.evidence import RESULTS


@dataclass(frozen=True)
class ComparedStudy:
    """What a study has made until now.

    Attributes:
        experiments: by name, those that have tables.
        verdict: `number` and `result` of each finding; None if it is not decided yet.
        missing: a sentence for each thing that the study lacks, with what makes it.
    """

    experiments: Mapping[str, ExperimentTables]
    verdict: pd.DataFrame | None
    missing: Sequence[str]


def read_studies(folders: Sequence[Path]) -> dict[str, ComparedStudy]:
    """Read the results folders of studies; return these by names that differ.

    Raises:
        UserError: a folder is given twice, has no experiment with tables, or a table is damaged.
    """
    return {name: _read(folder) for name, folder in study_names(folders).items()}


def study_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Name folders after the last part of their paths, and as many before it as tell them apart.

    Raises:
        UserError: one is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise UserError(f"{folder} is given twice, expected different studies")
    for length in itertools.count(1):
        names = [Path(*path.parts[-length:]).as_posix() for path in paths]
        if len({*names}) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def shared_experiments(
    studies: Mapping[str, ComparedStudy],
) -> dict[str, dict[str, ExperimentTables]]:
    """Return the tables of each experiment that at least two studies have, by study."""
    found: dict[str, dict[str, ExperimentTables]] = {}
    for name, study in studies.items():
        for experiment, tables in study.experiments.items():
            found.setdefault(experiment, {})[name] = tables
    return {experiment: having for experiment, having in found.items() if len(having) > 1}


def _read(folder: Path) -> ComparedStudy:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a study's results")
    whole, missing = [], []
    for inner in sorted(folder.iterdir()):
        files = [inner / f"{table}.parquet" for table in SUMMARIES]
        lacking = [file for file in files if not file.exists()]
        if not lacking:
            whole.append(inner)
        elif len(lacking) < len(files) or (inner / "labels.parquet").exists():
            missing.append(_lacks(lacking[0], inner.name, folder))
    if not whole and missing:
        raise UserError(missing[0])
    if not whole:
        names = " and ".join(f"{table}.parquet" for table in SUMMARIES)
        raise UserError(f"{folder} has no folder with {names}; expected a study's results")
    path = folder / "verdict.parquet"
    if not path.exists():
        missing.append(_lacks(path, "verdict", folder))
    verdict = _read_verdict(path) if path.exists() else None
    return ComparedStudy(read_all_tables(whole), verdict, missing)


def _lacks(path: Path, target: str, folder: Path) -> str:
    """Return what makes a missing file of a study, whose folder is named after its scale."""
    scale = folder.resolve().name
    return f"{path} does not exist; `snakemake {target} --config scale={scale}` makes it"


def _read_verdict(path: Path) -> pd.DataFrame:
    table = read_table(path, ["number", "result"], {"table": "verdict"}).to_pandas()
    unknown = set(table["result"]) - set(RESULTS)
    if unknown:
        raise UserError(f"{path} has the result {min(unknown)!r}, expected {', '.join(RESULTS)}")
    return table
