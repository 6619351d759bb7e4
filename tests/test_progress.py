"""Logs of jobs."""

from pathlib import Path

from smoothdescent.progress import log, logging_to


def test_a_log_that_cannot_be_written_ends_no_work():
    """On a full disk, neither a line nor the end of the log raises."""
    with logging_to(Path("/dev/full")):
        log("something")


def test_lines_are_written_at_once(tmp_path):
    path = tmp_path / "logs/run.log"
    with logging_to(path):
        log("something")
        assert path.read_text(encoding="utf-8").endswith(" something\n")
