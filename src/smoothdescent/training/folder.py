"""The folder of one run: all that it has computed, and where it goes on after a crash.

Snakemake deletes the declared outputs of a job before it starts and when it fails, so no rule
declares this folder. A training job says instead how far its runs shall be, and leaves alone what
is there already. The folder holds

    run.json               which run this is: all that determines its weights
    state_eN.safetensors   the training state at the end of the last segment, after N epochs
    autosave.safetensors   work in progress since then
    history.parquet        the history up to that state
    snapshots/eN.safetensors, sharpness/eN.parquet    weights after N epochs, and what was measured
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from smoothdescent.errors import UserError
from smoothdescent.files import fingerprint, remove_unfinished, write_text
from smoothdescent.lease import Lease
from smoothdescent.networks.weights import read_weights_metadata, save_weights
from smoothdescent.progress import log
from smoothdescent.runs import history_path, snapshot_path
from smoothdescent.training.run import Run


class Stopped(Exception):
    """A signal asked the training to stop; the run has been saved."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopRequest:
    """From its creation on, notes SIGTERM, SIGINT and SIGUSR1 for training loops to act on."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._stop: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Only noted here: a loop saves between two steps, where the state is consistent.
        if number != signal.SIGUSR1:
            self._stop = number
        for listener in self._listeners:
            listener.number = self._stop or number

    def listener(self) -> Listener:
        """Return what one loop learns of signals by; a stop that came before is told too."""
        self._listeners.append(Listener(self._stop))
        return self._listeners[-1]


@dataclass
class Listener:
    """The signal that a loop has not acted on yet."""

    number: int | None

    def take(self) -> int | None:
        """Return the signal that came since the last call, if any."""
        number, self.number = self.number, None
        return number

    def obey(self) -> None:
        """Stop where nothing has to be saved.

        Raises:
            Stopped: SIGTERM or SIGINT came.
        """
        number = self.take()
        if number in (signal.SIGTERM, signal.SIGINT):
            raise Stopped(number)


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder, `w{width}_s{seed}`.
        metadata: all that determines the run's weights, as strings; written into every file.
        conditions: a hash of what bit-identity needs beside that: code, kind of device, threads.
        lease: the right to write into the folder; nothing is written once it is lost.
    """

    def __init__(self, path: Path, metadata: dict[str, str], conditions: str, lease: Lease):
        self.path, self.metadata, self.conditions, self.lease = path, metadata, conditions, lease
        self.autosave = path / "autosave.safetensors"
        self.history = history_path(path)
        self._last_save = time.monotonic()

    def snapshot(self, epoch: int) -> Path:
        """Return the file of one epoch's weights."""
        return snapshot_path(self.path, epoch)

    def claim(self) -> None:
        """Make this the folder of the run, and put another run's folder of this name aside.

        Other settings make another run. What the old one computed is kept under a name with a hash
        of its settings, and comes back when they do.
        """
        self.lease.check()
        text = json.dumps(self.metadata, indent=1) + "\n"
        marker = self.path / "run.json"
        if marker.exists() and (old := marker.read_text()) != text:
            aside = self._aside(old)
            log(f"{self.path} was trained with other settings; it is kept as {aside}")
            os.replace(self.path, aside)
        if not marker.exists():
            if self._aside(text).exists():
                log(f"{self.path} comes back: it was trained with these settings")
                os.replace(self._aside(text), self.path)
            write_text(marker, text)
        for folder in (self.path, self.snapshot(0).parent):
            remove_unfinished(folder)

    def _aside(self, text: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{fingerprint(text)}")

    def restore(self, run: Run, snapshots: list[int]) -> None:
        """Load the farthest training state that can be used, and say so in the log.

        Work in progress can be used under the conditions of bit-identity alone; the state at the
        end of a segment always. Neither can if a snapshot from before it is missing or damaged.

        Args:
            run: at epoch 0; changed in place.
            snapshots: the snapshot epochs that are wanted.
        """
        found = [*self.states().values(), *([self.autosave] if self.autosave.exists() else [])]
        usable = {}
        for path in found:
            try:
                usable[self._position(path, snapshots)] = path
            except UserError as error:
                log(f"{path} is not used: {error}")
        for position in sorted(usable, reverse=True):
            try:
                run.load(usable[position])
            except UserError as error:
                log(f"{usable[position]} is not used: {error}")
                continue
            log(f"resumed from {usable[position]} after epoch {run.epoch}, step {run.step}")
            return

    def states(self) -> dict[int, Path]:
        """Return the states at the ends of segments, by epoch."""
        paths = self.path.glob("state_e*.safetensors")
        return {int(path.stem.removeprefix("state_e")): path for path in paths}

    def _position(self, path: Path, snapshots: list[int]) -> tuple[int, int]:
        """Return the epochs and steps done in a state, after checking that it can be used."""
        metadata = read_weights_metadata(path)
        if path == self.autosave and metadata.get("conditions") != self.conditions:
            raise UserError("the code, the device or the number of threads is another now")
        position = json.loads(metadata.get("position", '{"epoch": 0, "step": 0}'))
        for snapshot in snapshots:
            if snapshot <= position["epoch"]:
                read_weights_metadata(self.snapshot(snapshot))
        return position["epoch"], position["step"]

    def save_snapshot(self, run: Run) -> None:
        """Save the weights of the present epoch."""
        self.lease.check()
        metadata = {**self.metadata, "epoch": str(run.epoch)}
        save_weights(self.snapshot(run.epoch), run.network, metadata)

    def save_progress(self, run: Run) -> None:
        """Save the work in progress now."""
        self.lease.check()
        run.save(self.autosave, {**self.metadata, "conditions": self.conditions})
        self._last_save = time.monotonic()

    def save_if_due(self, run: Run, listener: Listener, minutes: float) -> None:
        """Save the work in progress if a signal asked for it or the last save is long ago.

        Raises:
            Stopped: SIGTERM or SIGINT came; the work has been saved.
        """
        number = listener.take()
        if number is None and time.monotonic() - self._last_save < 60 * minutes:
            return
        self.save_progress(run)
        if number in (signal.SIGTERM, signal.SIGINT):
            raise Stopped(number)

    def save_state(self, run: Run) -> None:
        """Save the state at the end of a segment, which takes the place of what came before it."""
        self.lease.check()
        run.save(self.path / f"state_e{run.epoch}.safetensors", self.metadata)
        self.autosave.unlink(missing_ok=True)
        for epoch, path in self.states().items():
            if epoch < run.epoch:
                path.unlink(missing_ok=True)
