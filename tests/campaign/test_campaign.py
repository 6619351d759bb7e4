"""A short part of the campaign: nothing is silently wrong, ends in a traceback or is stuck."""

import tempfile
from pathlib import Path

import pytest
from campaign.campaign import run


@pytest.mark.usefixtures("one_thread")
def test_a_short_campaign():
    # Not below pytest's own folder, which is closed to the user of the trials of read-only folders.
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        Path(folder).chmod(0o755)
        done = run(folder, seed=3, corruptions=12, kills=1, limits=1, inputs=150)
    assert not done.bad, done.report()
    outcomes = {outcome for counts in done.counts.values() for outcome in counts}
    assert {"healed", "refused"} <= outcomes
