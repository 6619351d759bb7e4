"""Python source code that determines results: where it is, and a hash of it.

Modules are found and read, not imported: that takes seconds, and may need the environment of a job.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sysconfig
import threading
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from smoothdescent.errors import UserError


def find_module(name: str) -> str | None:
    """Return the file that a job would import a module from ('' if it has none), None if nothing.

    Jobs find modules in the folder that they run in; Snakemake's own program does not.
    """
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(Path.cwd()), *filter(None, inherited)]
    first, *rest = name.split(".")
    try:
        spec = PathFinder.find_spec(first, places) or importlib.util.find_spec(first)
    except ValueError:  # a module that runs already, without a specification
        return ""
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return None if spec is None else spec.origin or ""


def module_sources(name: str) -> set[Path]:
    """Return the source files of a module, and of what it imports from its folder or package.

    Directly or through each other. Installed modules, and the program's own, are left out.

    Raises:
        UserError: a file is not Python.
    """
    found: set[Path] = set()
    top = _own_file(name.partition(".")[0]) or _own_file(name)
    if top is not None:
        _add_sources(name, found, top.parent)
    return found


def _add_sources(name: str, found: set[Path], folder: Path) -> None:
    path = _own_file(name)
    if path is None or path in found or not path.is_relative_to(folder):
        return
    found.add(path)
    for other in _imported(path, name):
        _add_sources(other, found, folder)


def _own_file(name: str) -> Path | None:
    """Return a module's source file, unless it is installed, or the program's own."""
    path = Path(find_module(name) or "").resolve()
    elsewhere = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")]
    elsewhere.append(Path(__file__).resolve().parent)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    if path.suffix != ".py" or installed or any(map(path.is_relative_to, elsewhere)):
        return None
    return path


def _imported(path: Path, module: str) -> Iterator[str]:
    """Yield the names of the modules that a module may import, its packages included."""
    yield from _packages(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                base = importlib.util.resolve_name(base, package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from _packages(name)
            yield name


def _packages(name: str) -> list[str]:
    """Return the packages that a module is in, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


# Python 3.11 counts the depth of its trees for all threads together, and two that parse at a time
# end in a SystemError (gh-106905).
_PARSING = threading.Lock()


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a source file.

    Raises:
        UserError: it is not Python.
    """
    try:
        with _PARSING:
            return ast.parse(path.read_bytes(), path)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}, is not Python: {error.msg}") from None


def code_digest(*files: str | Path) -> str:
    """Return a hash of source files that comments, docstrings, formatting and links do not change.

    Raises:
        UserError: a file is not Python.
    """
    digest = hashlib.sha256()
    for file in sorted(str(Path(file).resolve()) for file in files):
        tree = parse(Path(file))
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        digest.update(Path(file).name.encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
