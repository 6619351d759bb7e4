"""One writer at a time: a lease on a run's folder, right on shared file systems too.

A process that Snakemake, SLURM or the network has lost sight of may still run when another one is
started for the same run. Whoever holds the file `FOLDER.lease` may write the run. The file says who
that is, and its holder changes it every `Timing.beat` seconds.

File locks are not reliable on every shared file system, and clocks of hosts differ, so neither is
used. A lease is created by a hard link, which succeeds for one process alone. It is abandoned when
an observer has seen no change in it for `Timing.stale` seconds of its own clock, or when its holder
was a process of the observer's machine that has ended. An abandoned lease is taken over by a rename
over it. Of several processes that do so at a time the last one wins: each looks again after
`Timing.pause` seconds. In this time also a holder that was only slow finds out, because it looks
every `Timing.check` seconds before it goes on; it renews its lease through the file that it has
opened, which after the rename is no longer the file that others see.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from smoothdescent.errors import UserError
from smoothdescent.progress import log
from smoothdescent.write_faults import write_faults_told

RECORD_BYTES = 1024


@dataclass(frozen=True)
class Timing:
    """Seconds that all processes of a study must agree on.

    Attributes:
        beat: between two changes of a lease by its holder.
        stale: without a change, after which a lease is abandoned; several times `beat`.
        check: between two looks of a holder at its lease.
        pause: between a takeover and the first write; several times `check`.
        poll: between two looks of a process that waits.
    """

    beat: float = 10.0
    stale: float = 60.0
    check: float = 1.0
    pause: float = 3.0
    poll: float = 1.0


class Deposed(UserError):
    """This process was silent for so long that another one has taken its lease over."""


class Lease:
    """The right to write a run, held inside a `with` block.

    Args:
        folder: the run's folder; it need not exist. The lease is a file beside it, so that it
            also holds while the folder itself is moved.
        wait: seconds to wait for a holder that is alive. An abandoned lease is recognised after
            `timing.stale` seconds of waiting.
        while_waiting: called now and then while waiting; what it raises ends the waiting.
        timing: other times than the usual ones, for tests.

    Raises:
        UserError: on entry, if another process still holds the lease after `wait` seconds.
    """

    def __init__(
        self,
        folder: str | Path,
        wait: float = math.inf,
        while_waiting: Callable[[], None] = lambda: None,
        timing: Timing = Timing(),
    ):
        self.folder, self.wait, self.timing = Path(folder), wait, timing
        self.path = self.folder.with_name(f"{self.folder.name}.lease")
        self._while_waiting = while_waiting
        self._nonce = uuid.uuid4().hex
        self._since = _now()
        self._beats = 0
        self._file = -1
        self._checked = -math.inf
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=str(self.path))

    def __enter__(self) -> Lease:
        silence = Silence(longest_step=2 * self.timing.poll)
        deadline = time.monotonic() + self.wait
        told = False
        while not self._take(silence):
            holder = Holder.read(self.path) or f"a process that {self.path} does not name"
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{self.folder} is in use by {holder}; expected no other process: wait until "
                    "it has ended, or end it"
                )
            if not told:
                log(f"{self.folder} is in use by {holder}; waiting for its end")
                told = True
            self._while_waiting()
            time.sleep(self.timing.poll)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the lease back, if it is still this one's."""
        self._ended.set()
        self._thread.join()
        os.close(self._file)
        if self._is_held():
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Make sure that the lease is still held; to be called before each write.

        It costs a look at the file once in `timing.check` seconds, and else nothing.

        Raises:
            Deposed: it is not; the run must be left as it is.
        """
        now = time.monotonic()
        if now - self._checked < self.timing.check:
            return
        if not self._is_held():
            holder = Holder.read(self.path) or "another process, which has ended since"
            raise Deposed(
                f"{self.folder} was taken over by {holder}: this process (process {os.getpid()} on "
                f"host {socket.gethostname()}) gave no sign of life for {self.timing.stale:g} "
                "seconds or its lease was deleted; it stops and leaves the run as it is"
            )
        self._checked = now

    def _is_held(self) -> bool:
        return self._nonce.encode() in (_read(self.path) or b"")

    def _take(self, silence: Silence) -> bool:
        """Take the lease if it is free or abandoned; return whether it is held now."""
        content = _read(self.path)
        if content is None:
            return self._place(lambda candidate: _link(candidate, self.path))
        holder = Holder.parse(content)
        ended = holder is not None and holder.has_ended()
        if silence.seconds(content, time.monotonic()) < self.timing.stale and not ended:
            return False
        log(f"{self.folder} was abandoned by {holder or 'its holder'}; it is taken over")

        def take_over(candidate: Path) -> None:
            if _read(self.path) == content:
                os.replace(candidate, self.path)
                time.sleep(self.timing.pause)

        return self._place(take_over)

    def _place(self, move: Callable[[Path], None]) -> bool:
        """Write a lease of this process, try to put it in place, and return whether it is there."""
        with write_faults_told(self.path):
            return self._put(move)

    def _put(self, move: Callable[[Path], None]) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        candidate = self.path.with_name(f".{self.path.name}.{self._nonce}")
        self._file = os.open(candidate, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._renew()
            move(candidate)
        finally:
            # A second name of the file would keep network file systems from noticing a takeover.
            candidate.unlink(missing_ok=True)
            held = self._is_held()
            if not held:
                os.close(self._file)
        return held

    def _renew(self) -> None:
        """Change the file that this process has opened, whatever name it has by now."""
        self._beats += 1
        record = {
            "nonce": self._nonce,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "since": self._since,
            "heartbeat": _now(),
            "beats": self._beats,
            "started": _started(os.getpid()),
            "machine": _machine(),
        }
        os.pwrite(self._file, json.dumps(record).ljust(RECORD_BYTES).encode(), 0)
        os.fsync(self._file)

    def _beat(self) -> None:
        while not self._ended.wait(self.timing.beat):
            try:
                self._renew()
            except OSError as error:
                if not self._is_held():
                    return
                log(f"cannot renew {self.path}: {error}")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says.

    Attributes:
        host, pid, job, since: where it runs, which process and SLURM job it is, since when it does.
        started, machine: what tells the process from others of the same number; None if unknown.
    """

    host: str
    pid: int
    job: str | None
    since: str
    started: str | None
    machine: str | None

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Return the holder that a lease names; None if it is damaged."""
        try:
            record = json.loads(content)
            return cls(**{name: record[name] for name in cls.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return the holder of a lease; None if there is none, or the file is damaged."""
        return cls.parse(_read(path) or b"")

    def __str__(self) -> str:
        job = f"SLURM job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on host {self.host} since {self.since}"

    def has_ended(self) -> bool:
        """Return whether it was a process of this machine that is no longer there."""
        if self.machine is None or self.machine != _machine():
            return False
        return _started(self.pid) != self.started


@dataclass
class Silence:
    """How long a lease has been seen not to change, whatever any clock of its holder says.

    Args:
        longest_step: seconds that one look can add. While the observer itself stands still, or its
            file system does, the holder may stand still for the same reason.
    """

    longest_step: float
    _content: bytes | None = field(default=None, init=False)
    _last: float = field(default=0.0, init=False)
    _seconds: float = field(default=0.0, init=False)

    def seconds(self, content: bytes, now: float) -> float:
        """Return the seconds without a change, after a look at the time `now`."""
        if content != self._content:
            self._content, self._seconds = content, 0.0
        else:
            self._seconds += min(now - self._last, self.longest_step)
        self._last = now
        return self._seconds


def _read(path: Path) -> bytes | None:
    """Return a file's content; None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _link(source: Path, target: Path) -> None:
    """Give a file a second name unless that is taken.

    A network file system may report a failure although it has succeeded: look what is there.
    """
    with contextlib.suppress(FileExistsError):
        os.link(source, target)


def _started(pid: int) -> str | None:
    """Return when a process was started, in the kernel's ticks; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _machine() -> str | None:
    """Return what identifies the running kernel and the set of process numbers that is seen."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
