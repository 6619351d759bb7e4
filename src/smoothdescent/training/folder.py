"""The folder of one run: its products, and the state from which it resumes.

Snapshots and history are declared outputs of a rule. Each is written once, atomically, and says in
its metadata which run it belongs to; the history is written last, so where it is right, all is
there. The training state is the run's own (`smoothdescent.layout` shows the files).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from smoothdescent.errors import UserError
from smoothdescent.files import (
    canonical_json,
    fingerprint,
    read_bytes,
    read_metadata,
    remove_unfinished,
    set_aside,
    sha256_bytes,
    sha256_file,
    write_json,
    write_table,
)
from smoothdescent.layout import history_path, snapshot_path, state_path
from smoothdescent.lease import Lease
from smoothdescent.networks.registry import NETWORKS, network_sources
from smoothdescent.networks.weights import load_tensors, save_weights
from smoothdescent.progress import log
from smoothdescent.provenance import provenance
from smoothdescent.source_code import code_digest
from smoothdescent.training.run import Run

Conditions = dict[str, Any]


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


def network_code(network: str) -> dict[str, str]:
    """Return what files of a run say of the code of a network of the user's; nothing for others.

    Another architecture of the same name is another run.
    """
    if network in NETWORKS:
        return {}
    return {"network_code": code_digest(*network_sources(network))}


def snapshots_named(history: Path, expected: dict[str, str]) -> dict[str, str]:
    """Return the checksums by epoch of the snapshots that a run's history names.

    None are named without a history, or by one that is damaged or another run's.
    """
    with contextlib.suppress(UserError):
        return json.loads(read_metadata(history, expected)["snapshots"])
    return {}


def check_snapshot(
    path: Path, expected: dict[str, str], named: dict[str, str]
) -> tuple[dict[str, str], str]:
    """Make sure that a file is the snapshot that it should be.

    Args:
        path: the file.
        expected: what it should say of itself.
        named: the checksums in its run's history (see `snapshots_named`).

    Returns:
        All that it says of itself, and its checksum.

    Raises:
        UserError: it is not.
    """
    content = read_bytes(path, "safetensors file")
    found, checksum = read_metadata(path, expected, content), sha256_bytes(content)
    if (wanted := named.get(expected["epoch"], checksum)) != checksum:
        raise UserError(
            f"{path} is not the snapshot that its run wrote: its checksum is {checksum[:16]}, the "
            f"history of the run says {wanted[:16]}"
        )
    return found, checksum


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder, `w{width}_s{seed}`.
        identity: all that determines the run's weights, as strings; written into every file.
        conditions: what bit-identity needs beside that, such as the code and the device.
        lease: the right to write into the folder; nothing is written once it is lost.
    """

    def __init__(self, path: Path, identity: dict[str, str], conditions: Conditions, lease: Lease):
        self.path, self.identity, self.conditions, self.lease = path, identity, conditions, lease
        self.state = state_path(path)
        # Where a run that has missing snapshots before its state trains towards them again.
        self.replay = path / "replay.safetensors"
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
        marker = self.path / "run.json"
        owner = self._owner(marker)
        if owner not in (None, self.identity):
            aside = self._aside(owner)
            while aside.exists():
                aside = aside.with_name(f"{aside.name}.older")
            log(f"{self.path} was trained with other settings; it is kept as {aside}")
            os.replace(self.path, aside)
        if owner != self.identity:  # nobody's now
            aside = self._aside(self.identity)
            if aside.exists() and not any(path.is_file() for path in self.path.rglob("*")):
                log(f"{self.path} comes back: it was trained with these settings")
                # Snakemake has made the folders of the outputs.
                shutil.rmtree(self.path, ignore_errors=True)
                os.replace(aside, self.path)
        if self._said(marker) != self.identity:
            write_json(marker, self.identity)
        for folder in (self.path, self.snapshot(0).parent):
            remove_unfinished(folder)

    def _owner(self, marker: Path) -> dict[str, str] | None:
        """Return whose folder this is: what its marker or, if that is not this run, most files say.

        None if it holds nothing that says so.
        """
        if self._said(marker) == self.identity:
            return self.identity
        files = (marker, self.state, self.history, *self.path.glob("snapshots/*.safetensors"))
        said = [identity for identity in map(self._said, files) if identity is not None]
        return max(said, key=said.count, default=None)

    def _said(self, path: Path) -> dict[str, str] | None:
        """Return whose a file says it is; None if there is none that can be used."""
        with contextlib.suppress(UserError):
            found = read_metadata(path)
            keys = (*self.identity, "network_code")  # of another run, which alone may have one
            return {key: found[key] for key in keys if key in found}
        return None

    def _aside(self, identity: dict[str, str]) -> Path:
        return self.path.with_name(f"{self.path.name}.{fingerprint(identity)}")

    def missing_snapshots(self, epochs: list[int]) -> list[int]:
        """Return the epochs without a snapshot of this run; damaged and foreign ones are set aside.

        Args:
            epochs: those whose snapshots are wanted.
        """
        named = snapshots_named(self.history, self.identity)
        return [epoch for epoch in epochs if not self._has_snapshot(epoch, named)]

    def _has_snapshot(self, epoch: int, named: dict[str, str]) -> bool:
        path = self.snapshot(epoch)
        if not path.exists():
            return False
        try:
            check_snapshot(path, {**self.identity, "epoch": str(epoch)}, named)
        except UserError as error:
            self.lease.check()
            log(f"{error}; it is kept as {set_aside(path)}")
            return False
        return True

    def has_history(self, epochs: list[int], evaluated: list[int]) -> bool:
        """Return whether the history is that of this run up to the last of its snapshots.

        Any other is set aside: while a history is there, the run counts as finished.

        Args:
            epochs: of the snapshots, which the history names.
            evaluated: the epochs with an exact evaluation.
        """
        if not self.history.exists():
            return False
        try:
            read_metadata(self.history, self._history_metadata(epochs, evaluated))
        except UserError as error:
            self.lease.check()
            log(f"{error}; it is written anew, and kept as {set_aside(self.history)}")
            return False
        return True

    def _history_metadata(self, epochs: list[int], evaluated: list[int]) -> dict[str, str]:
        snapshots = {str(e): sha256_file(self.snapshot(e)) for e in epochs}
        return {
            **self.identity,
            "snapshots": canonical_json(snapshots),
            "evaluated": canonical_json(evaluated),
        }

    def restore(self, run: Run, path: Path) -> None:
        """Load a training state if it is this run's, and say so in the log.

        A state in the middle of a training of other code is not used: the run would be neither
        code's. Under another device, number of threads or library version the run resumes, and its
        history says so.

        Args:
            run: at epoch 0; changed in place.
            path: the state or the replay's.
        """
        run.conditions = [{"from_epoch": 0, **self.conditions, "kernels": run.kernels}]
        if not path.exists():
            return
        try:
            tensors, found = load_tensors(path, self.identity)
            last = json.loads(found["conditions"])[-1]
            if found["finished"] == "no" and last["code"] != self.conditions["code"]:
                raise UserError(f"{path}: the code has changed since")
            run.load(path, tensors, found)
        except (UserError, ValueError, KeyError, IndexError, TypeError) as error:
            self.lease.check()
            log(f"{path} is not used: {error}; it is kept as {set_aside(path).name}")
            return
        log(f"resumed from {path} after epoch {run.epoch}, step {run.step}")
        run.choose_kernels(last.get("kernels"))
        conditions = {**self.conditions, "kernels": run.kernels}
        changed = [key for key, value in conditions.items() if last.get(key) != value]
        run.conditions = json.loads(found["conditions"])
        if changed:
            was = ", ".join(f"{key} was {last.get(key)}, is {conditions[key]}" for key in changed)
            log(f"not bit for bit what an uninterrupted training computes: {was}")
            run.conditions.append({"from_epoch": run.epoch, **conditions})

    def save_snapshot(self, run: Run) -> None:
        """Save the weights of the present epoch."""
        self.lease.check()
        metadata = {**self.identity, "epoch": str(run.epoch)}
        metadata["trained_epochs"] = str(run.trained_epochs)
        if run.diverged is not None:
            metadata["diverged"] = str(run.diverged)
        save_weights(self.snapshot(run.epoch), run.network, metadata)

    def save_state(self, run: Run, path: Path, finished: bool = False) -> None:
        """Save the training state now.

        Args:
            run: the run.
            path: the state or the replay's.
            finished: whether the training has come to its last epoch.
        """
        self.lease.check()
        metadata = {"conditions": canonical_json(run.conditions)}
        metadata["finished"] = "yes" if finished else "no"
        run.save(path, {**self.identity, **metadata})
        self._last_save = time.monotonic()

    def save_if_due(self, run: Run, path: Path, listener: Listener, minutes: float) -> None:
        """Save the training state if a signal asked for it or the last save is long ago.

        Raises:
            Stopped: SIGTERM or SIGINT came; the work has been saved.
        """
        number = listener.take()
        if number is None and time.monotonic() - self._last_save < 60 * minutes:
            return
        self.save_state(run, path)
        if number in (signal.SIGTERM, signal.SIGINT):
            raise Stopped(number)

    def save_history(self, run: Run, epochs: list[int], evaluated: list[int]) -> None:
        """Write the history up to the last snapshot, which says that all of the run is there.

        Args:
            run: at that epoch or past it.
            epochs: of the snapshots.
            evaluated: the epochs with an exact evaluation. Others, from a time when the run was
                asked for other epochs, are left out: the history depends on the configuration and
                not on what was asked for before.
        """
        self.lease.check()
        table = run.history_table(until=epochs[-1], evaluated=evaluated)
        for column in ("seed", "width"):
            table.insert(0, column, int(self.identity[column]))
        table.insert(0, "experiment", self.identity["experiment"])
        table["parameters"] = int(self.identity["parameters"])
        fitted = {e: run.fitted[e].numpy().tobytes() for e in evaluated if e in run.fitted}
        table["fitted"] = [fitted.get(epoch) for epoch in table["epoch"]]
        metadata = self._history_metadata(epochs, evaluated)
        facts = {"conditions": canonical_json(run.conditions)}
        write_table(self.history, table, {**metadata, **facts, **provenance()})
