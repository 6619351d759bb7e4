"""What a study needs and a job would miss: looked for before anything starts, without torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

from smoothdescent.config.schema import Study
from smoothdescent.errors import UserError
from smoothdescent.source_code import code_digest, find_module, module_sources, parse


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


def own_code(paths: Iterable[str]) -> str:
    """Return a hash of the code of the user's modules that some import paths name; '' for none.

    Args:
        paths: of networks or measures; names of the program's own are left out.
    """
    files = set().union(*(module_sources(path.partition(":")[0]) for path in paths if ":" in path))
    return code_digest(*files) if files else ""


def _check_import(path: str, where: str, named: bool) -> None:
    module, _, attribute = path.partition(":")
    source = find_module(module)
    if source is None:
        raise UserError(
            f"{where} is {path!r}, but there is no module {module!r} in {Path.cwd()} or among the "
            "installed packages"
        )
    if not source.endswith(".py"):
        return  # a compiled module, or a package without a file
    try:
        tree = parse(Path(source))
    except UserError as error:
        raise UserError(f"{where} is {path!r}, but {error}") from None
    for name in _imported(tree):
        if find_module(name.partition(".")[0]) is None:
            raise UserError(
                f"{where} is {path!r}, but {source} imports {name!r}, which is not installed"
            )
    defined = _defined(tree)
    if named and attribute not in defined and not defined & {"*", "__getattr__", "globals"}:
        raise UserError(f"{where} is {path!r}, but {source} does not define {attribute!r}")


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
