"""Never two writers: a lease on a run, on any file system that several hosts share.

After a lost Snakemake or a lost node, a job can live on while the same job is submitted again. Each
holds a lease before it writes. A lease is a file that names its holder, who changes it every few
seconds; one that has not changed for a minute is stale, and may be taken over. Nothing here relies
on file locks or on the clocks of two hosts agreeing: a file is linked into place, which one
process alone can do, and whether a lease changes is observed on the observer's own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from smoothdescent.errors import UserError
from smoothdescent.progress import log

BEAT_SECONDS = 10.0  # time between two signs of life
STALE_SECONDS = 60.0  # a lease without one for so long may be taken over
_SIZE = 1024  # bytes of a lease: all of one length, so that a beat never truncates


class Held(UserError):
    """Another process holds the lease."""


class Deposed(Held):
    """Another process has taken the lease over, because this one showed no sign of life."""


class Lease:
    """The right to write what a name stands for, held while the `with` block runs.

    Args:
        path: the lease's file, `NAME.lease`; its folder is created if need be.
        beat: seconds between two signs of life.
        stale: seconds without one after which a lease is taken over. A holder that lives is waited
            for half as long again.

    Raises:
        Held: another process holds the lease and lives; the sentence names it.
    """

    def __init__(self, path: Path, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS):
        self.path, self.beat, self.stale = path, beat, stale
        self._content = {
            "nonce": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
            "machine": _machine(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._ended = threading.Event()
        self._deposed = False
        self._file = -1

    def __enter__(self) -> Lease:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{self._content['nonce']}")
        self._file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._show_life(0)
            self._acquire(temporary)
        except BaseException:
            os.close(self._file)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._file)
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise if the lease is no longer ours; to be called before each write.

        Raises:
            Deposed: names the holder.
        """
        if self._deposed or not self._is_ours():
            self._deposed = True
            raise Deposed(
                f"{self.path.with_suffix('')} has been taken over by {_name(_read(self.path))}, "
                "because this process showed no sign of life; it stops and writes nothing more"
            )

    def _is_ours(self) -> bool:
        return _read(self.path).get("nonce") == self._content["nonce"]

    def _acquire(self, temporary: Path) -> None:
        watched, changed = None, time.monotonic()
        deadline = time.monotonic() + 1.5 * self.stale
        while True:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self.path)
                return
            found = _read(self.path)
            if found != watched:
                watched, changed = found, time.monotonic()
            if _is_dead(found) or time.monotonic() - changed > self.stale:
                if self._take_over(temporary, found):
                    return
                continue
            if time.monotonic() > deadline:
                raise Held(
                    f"{self.path.with_suffix('')} is being written by {_name(found)}; wait for it "
                    "to end, or end it, and run again"
                )
            time.sleep(self.beat / 4)

    def _take_over(self, temporary: Path, old: dict[str, Any]) -> bool:
        """Put our lease in the place of one that is stale; False if somebody else did."""
        # One process at a time may replace a lease: the one that could make this folder.
        gate = self.path.with_name(f".{self.path.name}.takeover")
        try:
            gate.mkdir()
        except FileExistsError:
            # Whoever made it may have died in the next three lines.
            time.sleep(self.beat)
            with contextlib.suppress(OSError):
                if time.time() - gate.stat().st_mtime > 10 * self.stale:
                    gate.rmdir()
            return False
        try:
            if _read(self.path) != old:
                return False
            os.link(temporary, f"{temporary}.link")
            os.replace(f"{temporary}.link", self.path)
        finally:
            gate.rmdir()
        log(f"took over {self.path.with_suffix('')} from {_name(old)}, which shows no sign of life")
        return True

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(self.beat):
            count += 1
            self._show_life(count)
            if not self._is_ours():
                self._deposed = True
                return

    def _show_life(self, count: int) -> None:
        # Written through our own descriptor: if the lease has been taken over meanwhile, this goes
        # to a file that nobody sees, and never into the new holder's.
        text = json.dumps({**self._content, "beat": count})
        os.pwrite(self._file, text.ljust(_SIZE).encode(), 0)
        with contextlib.suppress(OSError):  # a full disk ends the training elsewhere
            os.fsync(self._file)


def _read(path: Path) -> dict[str, Any]:
    """Return a lease's content; what cannot be read is nobody's."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _name(content: dict[str, Any]) -> str:
    """Name a lease's holder."""
    job = f"SLURM job {content['job']}, " if content.get("job") else ""
    return (
        f"{job}process {content.get('pid', '?')} on host {content.get('host', '?')}, since "
        f"{content.get('since', '?')}"
    )


def _is_dead(content: dict[str, Any]) -> bool:
    """Return whether a holder has surely ended: it ran on this machine and is gone."""
    if not content.get("machine") or content["machine"] != _machine():
        return False
    return _start_time(content.get("pid", 0)) != content.get("started")


def _machine() -> str:
    """Return what a process number is unique in: this boot of this host, and its namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot; '' if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
