"""TensorBoard event files of a study's evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from tensorboardX import SummaryWriter

    from smoothdescent.plan.status import RunState

SUFFIX = ".smoothdescent"


class EventFiles:
    """Event files of runs, `<folder>/<experiment>/<run>`, which grow as the runs do.

    Those of an earlier call in the same folder are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._epochs: dict[Path, int] = {}  # up to which each run's evaluations are written
        self._writers: dict[Path, SummaryWriter] = {}

    def write(self, states: dict[str, list[RunState]]) -> None:
        """Write the evaluations that are new since the last call, of runs by experiment."""
        for experiment, found in states.items():
            for state in found:
                run = self.folder / experiment / state.name
                evaluations = state.evaluations
                new = evaluations[evaluations["epoch"] > self._epochs.get(run, -1)]
                if len(new):
                    self._add(run, new)
                if state.is_trained and run in self._writers:
                    self._writers.pop(run).close()

    def _add(self, run: Path, evaluations: pd.DataFrame) -> None:
        from tensorboardX import SummaryWriter

        if run not in self._epochs:
            for old in run.glob(f"events.out.tfevents.*{SUFFIX}"):
                old.unlink()
            writer = SummaryWriter(str(run), flush_secs=1, filename_suffix=SUFFIX)
            self._writers[run] = writer
        for row in evaluations.to_dict("records"):
            epoch = int(row.pop("epoch"))
            for name, value in row.items():
                self._writers[run].add_scalar(name, value, epoch)
            self._epochs[run] = epoch

    def close(self) -> None:
        """Close the files that are still open."""
        for writer in self._writers.values():
            writer.close()
