"""Where compiled kernels are kept, and what was found out about them on this machine.

Numba compiles a kernel for the processor at hand when it is first called, and keeps it on disk.
"""

from __future__ import annotations

import functools
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
from numba import njit

from smoothdescent.progress import log
from smoothdescent.source_code import code_digest

_TURNS = 5  # of each contestant, after one that is not counted


def cached(function: Callable) -> Callable:
    """Compile a kernel, and keep it on disk; it lets other threads run."""
    before = numba.config.CACHE_DIR
    place = folder()
    try:
        numba.config.CACHE_DIR = str(place or before)
        settings = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
        return njit(cache=place is not None, **settings)(function)
    finally:
        numba.config.CACHE_DIR = before


@functools.cache
def folder() -> Path | None:
    """Return a folder for kernels of this source, in the first place that can be written to.

    Numba looks at the date of one file to see whether a kernel is out of date; the name of the
    folder has a hash of all of them.
    """
    name = f"smoothdescent-{code_digest(*Path(__file__).parent.glob('*.py'))}"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    places = [numba.config.CACHE_DIR, Path(__file__).parent / "__pycache__", home]
    for place in places:
        if place and _can_write(Path(place) / name):
            return Path(place) / name
    private = Path(tempfile.gettempdir()) / f"smoothdescent-numba-{os.getuid()}"
    if _is_private(private) and _can_write(private / name):
        log(f"kernels are cached in {private}: neither the program's folder nor home is writable")
        return private / name
    log("kernels are compiled anew: no folder to cache them in is writable")
    return None


def _can_write(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def _is_private(path: Path) -> bool:
    """Make a folder, and return whether nobody else can have put something into it, to be run."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return False
    private = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return private and stat.S_ISDIR(found.st_mode)


def fastest(question: str, contestants: dict[str, Callable[[], object]], needed: float) -> str:
    """Return the name of the fastest contestant; timed once on a machine, then read from disk.

    Args:
        question: what is chosen, and all that the answer depends on; the name of a file.
        contestants: functions that do the same work, by name; the last one is the usual one.
        needed: the fraction of the usual one's time that another may take to be chosen.
    """
    place = folder()
    answer = place / question if place else None
    if answer and (known := _read(answer)) in contestants:
        return known
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 + _TURNS):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    *others, usual = contestants
    best = {name: min(times[name][1:]) for name in contestants}
    winner = min(others, key=best.get)
    winner = winner if best[winner] <= needed * best[usual] else usual
    return _agree(answer, winner, list(contestants)) if answer else winner


def _agree(answer: Path, mine: str, contestants: list[str]) -> str:
    """Write an answer down, unless another process was faster: then return its answer."""
    written = answer.with_name(f"{answer.name}.{os.getpid()}")
    written.write_text(mine)
    try:
        os.link(written, answer)  # fails if there is an answer
    except FileExistsError:
        if (known := _read(answer)) in contestants:
            return known
        os.replace(written, answer)
    finally:
        written.unlink(missing_ok=True)
    return mine


def _read(answer: Path) -> str | None:
    try:
        return answer.read_text()
    except OSError:
        return None
