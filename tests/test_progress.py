"""Logs of jobs."""

import time
from pathlib import Path

from smoothdescent.progress import log, log_times, logged_times, logging_to


def test_a_log_that_cannot_be_written_ends_no_work():
    """On a full disk, neither a line nor the end of the log raises."""
    with logging_to(Path("/dev/full")):
        log("something")


def test_lines_are_written_at_once(tmp_path):
    path = tmp_path / "logs/run.log"
    with logging_to(path):
        log("something")
        assert path.read_text(encoding="utf-8").endswith(" something\n")


def test_times_are_read_back(tmp_path):
    path = tmp_path / "run.log"
    assert logged_times(path) is None
    with logging_to(path):
        log("w1_s0 took 3.0 s, they say")
        assert logged_times(path) is None
        log_times()
        processor = time.process_time()
        while time.process_time() < processor + 0.2:
            pass
        log_times()
    clock, found = logged_times(path)
    assert processor + 0.1 < found < time.process_time() + 0.1 and clock > 0
