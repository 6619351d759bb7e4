"""The crate of a finished study: its files, and what they are and were made from.

After the profile Workflow Run Crate: the workflow is the instrument of an action, whose objects are
the configuration and the data sets, and whose results are tables, figures and verdict.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity
from rocrate.model.file import File
from rocrate.rocrate import ROCrate

from smoothdescent import __version__
from smoothdescent.crate.croissant import VERSION as CROISSANT
from smoothdescent.crate.croissant import croissant
from smoothdescent.crate.study import FinishedStudy
from smoothdescent.crate.workflow import configuration, rule_graph, workflow_files, workflow_folder
from smoothdescent.figures.captions import heading, made_with
from smoothdescent.files import sha256_file
from smoothdescent.tables.dictionary import TABLES

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
WORKFLOW_TERMS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
# Of the workflow, and of all of the crate until its authors choose another.
LICENSE = ("https://spdx.org/licenses/MIT", "MIT License")
FORMATS = {
    ".dot": "text/vnd.graphviz",
    ".html": "text/html",
    ".json": "application/ld+json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".yaml": "application/yaml",
}
_ROWS = {table.file: f"A row is a {table.row}." for table in TABLES}


def make_crate(study: FinishedStudy, *, with_weights: bool) -> ROCrate:
    """Return the crate, to be written; until then its files are those of the study.

    Args:
        study: the study.
        with_weights: pack the snapshots of all runs too.

    Raises:
        UserError: a snapshot is missing or damaged, or the workflow cannot be packed (see
            `crate.workflow`).
    """
    crate = ROCrate(version="1.1")  # the one that the profiles build on
    crate.metadata.extra_terms["sha256"] = "http://schema.org/sha256"  # it has no such term yet
    folder = workflow_folder()
    config = configuration(study, folder)
    license = _context(crate, LICENSE[0], "CreativeWork", name=LICENSE[1])
    crate.name = f"Deep double descent via smooth interpolation, scale {study.scale}"
    crate.description = f"{study.headline}. Experiments: {', '.join(study.experiments)}."
    crate.license = license
    crate.root_dataset["conformsTo"] = [
        _context(crate, profile, "CreativeWork", name=name, version=profile.rpartition("/")[2])
        for profile, name in PROFILES.items()
    ]
    configured = _text(crate, "config.yaml", config, "The configuration in force")
    workflow = _add_workflow(crate, folder)
    workflow["license"] = license
    workflow["softwareRequirements"] = _software(crate, study)
    graph = rule_graph(study, folder, config)
    kind = {"@type": ["File", "ImageObject"]}
    about = "The rules of the workflow, for Graphviz"
    workflow["image"] = _text(crate, "rulegraph.dot", graph, about, **kind)
    results = [_add(crate, path, study.place(path), _about(path)) for path in study.results]
    if with_weights:
        for path in study.weights():
            about = f"The weights after {path.stem.removeprefix('e')} epochs"
            results.append(_add(crate, path, study.place(path), about))
    _add_action(crate, study, workflow, [configured, *_data_sets(crate, study)], results)
    _add_croissant(crate, study)
    readme = _text(crate, "README.md", _readme(study), "What is here, and how to make it again")
    readme["about"] = crate.root_dataset
    return crate


def _context(crate: ROCrate, identifier: str, kind: str, /, **properties: Any) -> ContextEntity:
    return crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))


def _text(crate: ROCrate, place: str, text: str, name: str, **properties: Any) -> File:
    """Add a file with some text."""
    properties |= {"name": name, "encodingFormat": FORMATS[Path(place).suffix]}
    return crate.add_file(StringIO(text), place, properties=properties, record_size=True)


def _add(crate: ROCrate, path: Path, place: str, name: str) -> File:
    """Add a file that is there."""
    properties = {
        "name": name,
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
        "contentSize": str(path.stat().st_size),
        "sha256": sha256_file(path),
    }
    return crate.add_file(path, place, properties=properties)


def _about(path: Path) -> str:
    """Say what a product is."""
    if path.parent.name == "figures":
        kind = {".parquet": "its numbers", ".md": "its caption"}.get(path.suffix, path.suffix[1:])
        return f"{path.stem}: {heading(path.stem)} ({kind})"
    if path.name in _ROWS:
        return f"{path.stem} of {path.parent.name}. {_ROWS[path.name]}"
    if path.name == "config.yaml":
        return f"The configuration of {path.parent.name}"
    if path.stem == "explore":
        return "Tables, verdict and a gallery on one interactive page"
    return "The verdict on each of the paper's findings"


def _add_workflow(crate: ROCrate, folder: Path) -> File:
    """Add the files of the workflow; return the Snakefile."""
    for path in workflow_files(folder):
        place = path.relative_to(folder).as_posix()
        if place != "Snakefile":
            _add(crate, path, place, place)
    return crate.add_workflow(
        folder / "Snakefile",
        "Snakefile",
        properties={
            "name": "smoothdescent",
            "version": __version__,
            "conformsTo": {"@id": WORKFLOW_TERMS},
            "encodingFormat": "text/plain",
        },
        main=True,
        lang="snakemake",
        record_size=True,
    )


def _software(crate: ROCrate, study: FinishedStudy) -> list[ContextEntity]:
    """Add the program and the libraries that the tables say they were made with, by version."""
    found = set()
    for said in study.made_with.values():
        found.add(("smoothdescent", said["smoothdescent_version"]))
        found |= {*json.loads(said["library_versions"]).items()}
        found |= {tuple(words.split(" ", 1)) for words in json.loads(said["training_versions"])}
    # Package URLs; these two are in no registry of Python packages.
    kinds = {"python": "generic", "smoothdescent": "generic"}
    return [
        _context(
            crate,
            f"pkg:{kinds.get(name, 'pypi')}/{name}@{version}",
            "SoftwareApplication",
            name=name,
            softwareVersion=version,
        )
        for name, version in sorted(found)
    ]


def _data_sets(crate: ROCrate, study: FinishedStudy) -> list[ContextEntity]:
    """Add what is known of the images, which are not packed."""
    return [
        _context(
            crate,
            f"#{name}",
            "CreativeWork",
            name=name,
            description=said["description"],
            identifier=said["sha256"],  # of images and labels, whatever file they are in
        )
        for name, said in study.images.items()
    ]


def _add_action(
    crate: ROCrate, study: FinishedStudy, workflow: File, objects: list[Any], results: list[File]
) -> None:
    """Add the making of the study; the dates of its files say from when to when that was."""
    dates = [path.stat().st_mtime for path in study.results]
    sentences = [f"{name}: {made_with(study.tables(name)[1])}" for name in study.experiments]
    action = crate.add_action(
        workflow,
        "#study",
        objects,
        results,
        properties={
            "name": f"The study {study.scale}",
            "description": " ".join(sentences),
            "startTime": _iso(min(dates)),
            "endTime": _iso(max(dates)),
        },
    )
    crate.root_dataset["mentions"] = action


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def _add_croissant(crate: ROCrate, study: FinishedStudy) -> None:
    about = {
        "name": crate.name,
        "description": crate.description,
        "license": LICENSE[0],
        "datePublished": crate.root_dataset["datePublished"],
    }
    paths = [path for name in study.experiments for path in study.tables(name)]
    described = croissant(about, {study.place(path): path for path in paths})
    text = json.dumps(described, indent=1) + "\n"
    file = _text(crate, "croissant.json", text, "The tables and their columns, in Croissant")
    file["conformsTo"] = _context(crate, CROISSANT, "CreativeWork", name="Croissant 1.0")


def _readme(study: FinishedStudy) -> str:
    return f"""# Deep double descent via smooth interpolation, scale {study.scale}

{study.headline}.

- `results/{study.scale}/verdict.md`: the verdict on each of the paper's findings
- `results/{study.scale}/figures/`: figures, captions and the numbers that they show
- `results/{study.scale}/<experiment>/`: tables, whose columns `croissant.json` explains
- `config.yaml`: the configuration in force; `rulegraph.dot`: the rules of the workflow
- `ro-crate-metadata.json`: what was made from what, and with which versions

To make it again, with Python 3.11 or newer and smoothdescent {__version__} installed:

```sh
pip install -r requirements.txt
snakemake --cores all
```
"""
