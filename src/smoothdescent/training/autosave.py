"""Work in progress that survives a crash, a signal or a deleted output.

Snakemake deletes the outputs of a job before it starts and when it fails. A segment's work in
progress therefore lives in a folder that no rule declares: the last training state and the
snapshots made so far. The folder stays when the segment is done. Its files and the outputs are
then hard links to the same data, which take no further space, and a segment that is run again is
restored from it at once. The next segment removes it.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from types import FrameType

from smoothdescent.errors import UserError
from smoothdescent.files import place_file, place_folder
from smoothdescent.networks.weights import load_tensors, save_weights
from smoothdescent.progress import log
from smoothdescent.training.run import Run


class Stopped(Exception):
    """A signal asked the training to stop; the run has been autosaved."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Autosave:
    """The work in progress of one segment.

    Args:
        folder: where it is kept.
        fingerprint: of all that determines the result; work of another fingerprint is discarded.
        run: the run that is saved.
        metadata: of the snapshots and states.
        minutes: time between two saves.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: str,
        run: Run,
        metadata: dict[str, str],
        minutes: float,
    ):
        self.folder, self.run, self.minutes = folder, run, minutes
        self.metadata = {**metadata, "fingerprint": fingerprint}
        self._last_save = time.monotonic()
        self._requested: int | None = None

    @property
    def state_path(self) -> Path:
        """The last saved training state."""
        return self.folder / "state.safetensors"

    def snapshot_path(self, epoch: int) -> Path:
        """The snapshot of one epoch."""
        return self.folder / f"e{epoch}.safetensors"

    def restore(self, snapshots: list[int]) -> bool:
        """Continue from the saved state, if it is one of this segment, and say so in the log.

        A state of another fingerprint, or one whose snapshots are not whole, is discarded.

        Args:
            snapshots: the segment's snapshot epochs.

        Returns:
            Whether the run was restored.
        """
        if not self.state_path.exists():
            return False
        try:
            metadata = load_tensors(self.state_path)[1]
            if metadata.get("fingerprint") != self.metadata["fingerprint"]:
                raise UserError("its configuration, input or code differs from the present one")
            epoch = json.loads(metadata["position"])["epoch"]
            for snapshot in snapshots:
                if snapshot <= epoch:
                    load_tensors(self.snapshot_path(snapshot))
            self.run.load(self.state_path)
        except UserError as error:
            log(f"the work in progress in {self.folder} is discarded: {error}")
            shutil.rmtree(self.folder)
            return False
        log(f"resumed from {self.state_path} in epoch {self.run.epoch + 1}, step {self.run.step}")
        return True

    def save(self) -> None:
        """Save the training state now."""
        self.run.save(self.state_path, self.metadata)
        self._last_save = time.monotonic()

    def save_snapshot(self) -> None:
        """Save the weights of the present epoch."""
        metadata = {**self.metadata, "epoch": str(self.run.epoch)}
        save_weights(self.snapshot_path(self.run.epoch), self.run.network, metadata)

    def save_if_due(self) -> None:
        """Save if a signal asked for it or the last save is long ago.

        Raises:
            Stopped: SIGTERM or SIGINT came; the state has been saved.
        """
        number, self._requested = self._requested, None
        if number is None and time.monotonic() - self._last_save < 60 * self.minutes:
            return
        self.save()
        if number in (signal.SIGTERM, signal.SIGINT):
            raise Stopped(number)

    def listen(self) -> None:
        """From now on, save on SIGUSR1, and save and stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        # Only noted here: the loop saves between two steps, where the state is consistent.
        if self._requested not in (signal.SIGTERM, signal.SIGINT):
            self._requested = number

    def publish(self, *, state: Path, snapshots: Path, epochs: list[int]) -> None:
        """Put the finished segment's state and snapshots in their places."""
        place_file(self.state_path, state)
        sources = [self.snapshot_path(epoch) for epoch in epochs]
        place_folder(
            snapshots, lambda folder: [place_file(path, folder / path.name) for path in sources]
        )
