"""A short part of the campaign: nothing is silently wrong, ends in a traceback or is stuck."""

import pytest
from campaign.campaign import run


@pytest.mark.usefixtures("one_thread")
def test_a_short_campaign(tmp_path):
    done = run(tmp_path, seed=3, corruptions=12, kills=1, limits=1, inputs=150)
    assert not done.bad, done.report()
    outcomes = {outcome for counts in done.counts.values() for outcome in counts}
    assert {"healed", "refused"} <= outcomes
