"""What a study needs and a job would miss: looked for before anything starts, without torch.

Networks and measures of the user's are found and read, not imported: that takes seconds, and may
need the environment of a job.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from smoothdescent.config.schema import Study
from smoothdescent.errors import UserError


def check_images(study: Study, decoded: Path) -> None:
    """Check the images that experiments read, where they are not decoded yet.

    Args:
        study: the configuration in force.
        decoded: folder of the decoded data sets.

    Raises:
        UserError: there are none, or their form is not what is read or measured.
    """
    sizes: dict[str, int | None] = {}
    for name, experiment in study.experiments.items():
        dataset = experiment.data.dataset
        if (decoded / f"{dataset}.safetensors").exists():
            continue
        if dataset not in sizes:
            try:
                sizes[dataset] = study.datasets[dataset].check()
            except UserError as error:
                raise UserError(f"datasets.{dataset}: {error}") from None
        size = experiment.data.image_size or sizes[dataset]
        if size is not None:
            try:
                experiment.measure.paths.check(size)
            except ValueError as error:
                raise UserError(f"experiments.{name}.measure.paths.{error}") from None


def check_imports(study: Study) -> None:
    """Check that what experiments import is there.

    Raises:
        UserError: a network or measure is in no module that can be found, its source has an error
            or does not define it, or imports what is not installed.
    """
    for name, experiment in study.experiments.items():
        where = f"experiments.{name}"
        if ":" in experiment.network:
            _check_import(experiment.network, f"{where}.network", named=True)
        for measure in experiment.measure.measures:
            if ":" in measure:
                # It is registered by its name, which need not be that of its function.
                _check_import(measure, f"{where}.measure.measures", named=False)


def _check_import(path: str, where: str, named: bool) -> None:
    module, _, attribute = path.partition(":")
    source = _find(module)
    if source is None:
        raise UserError(
            f"{where} is {path!r}, but there is no module {module!r} in {Path.cwd()} or among the "
            "installed packages"
        )
    if not source.endswith(".py"):
        return  # a compiled module, or a package without a file
    try:
        tree = ast.parse(Path(source).read_bytes(), source)
    except SyntaxError as error:
        raise UserError(
            f"{where} is {path!r}, but {source}, line {error.lineno}, is not Python: {error.msg}"
        ) from None
    for name in _imported(tree):
        if _find(name.partition(".")[0]) is None:
            raise UserError(
                f"{where} is {path!r}, but {source} imports {name!r}, which is not installed"
            )
    defined = _defined(tree)
    if named and attribute not in defined and not defined & {"*", "__getattr__", "globals"}:
        raise UserError(f"{where} is {path!r}, but {source} does not define {attribute!r}")


def _find(module: str) -> str | None:
    """Return the file that a job would import a module from ('' if it has none), None if nothing.

    Jobs find modules in the folder that they run in; Snakemake's own program does not.
    """
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(Path.cwd()), *filter(None, inherited)]
    first, *rest = module.split(".")
    try:
        spec = PathFinder.find_spec(first, places) or importlib.util.find_spec(first)
    except ValueError:  # a module that runs already, without a specification
        return ""
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return None if spec is None else spec.origin or ""


def _imported(tree: ast.Module) -> list[str]:
    """Return the modules that a module imports whenever it is imported, by their full names."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module)
    return [name for name in names if name.partition(".")[0] not in sys.builtin_module_names]


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that a module may define, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    return names
