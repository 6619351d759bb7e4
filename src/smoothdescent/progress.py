"""Progress of a long loop: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from smoothdescent.write_faults import WRITE_FAULTS

SECONDS_BETWEEN_LINES = 30.0
_START = time.monotonic()
_TIMES = re.compile(r" took ([\d.]+) s, ([\d.]+) s of processor time$")
# Of each thread, for runs that are trained side by side.
_files: ContextVar[tuple[TextIO, ...]] = ContextVar("files", default=())


class Progress:
    """Shows how much of a loop is done, its throughput and the remaining time.

    Args:
        total: units of work in the whole loop.
        unit: what is counted, for example "images".
        description: what the loop does.
    """

    def __init__(self, total: int, unit: str, description: str):
        self.total, self.unit, self.description = total, unit, description
        self.done = 0
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {unit}", desc=description, unit_scale=True)

    def advance(self, count: int) -> None:
        """Count `count` more units as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            log(f"{self.description}: {100 * self.done / self.total:.0f} % done, {self.rate()}")

    def rate(self) -> str:
        """Return the throughput so far and the expected remaining time, in words."""
        speed = self.done / max(time.monotonic() - self._start, 1e-9)
        remaining = (self.total - self.done) / speed if speed else float("inf")
        return f"{speed:,.0f} {self.unit}/s, {remaining:.0f} s remaining"

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def log(message: str) -> None:
    """Write one line with the time of day to standard error, above a bar if there is one.

    A log that cannot be written ends no work: on a full disk, the next product will tell it.
    """
    line = f"{time.strftime('%H:%M:%S')} {message}"
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        _print(line, sys.stderr)
    for file in _files.get():
        _print(line, file)


def log_times() -> None:
    """Log how long this process has taken so far, by the clock and of processors."""
    elapsed = time.monotonic() - _START
    log(f"took {elapsed:.1f} s, {time.process_time():.1f} s of processor time")


def logged_times(path: Path) -> tuple[float, float] | None:
    """Return what a job's last `log_times` told its log; None if there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found = [match for line in lines if (match := _TIMES.search(line))]
    return (float(found[-1][1]), float(found[-1][2])) if found else None


def _print(line: str, file: TextIO) -> None:
    try:
        print(line, file=file, flush=True)
    except OSError as error:
        if error.errno not in WRITE_FAULTS:
            raise


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Add what is logged inside the block to the end of a file too, below a line that says by whom.

    Snakemake keeps the log of a job's last attempt alone; such a file keeps them all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID")
    who = f"process {os.getpid()} on host {socket.gethostname()}"
    # Unbuffered: what a full disk refuses would else be tried again, and fail, when it is closed.
    with TextIOWrapper(path.open("ab", buffering=0), write_through=True) as file:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        _print(f"{now} SLURM job {job}, {who}" if job else f"{now} {who}", file)
        before = _files.set((*_files.get(), file))
        try:
            yield
        finally:
            _files.reset(before)
