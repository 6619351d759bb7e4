"""A short part of the campaign: nothing is silently wrong, ends in a traceback or is stuck."""

import pytest
from campaign.campaign import open_folder, run


@pytest.mark.usefixtures("one_thread")
def test_a_short_campaign():
    with open_folder() as folder:  # pytest's own folder is closed to other users
        done = run(folder, seed=3, corruptions=12, kills=1, limits=1, inputs=150)
    assert not done.bad, done.report()
    outcomes = {outcome for counts in done.counts.values() for outcome in counts}
    assert {"healed", "refused"} <= outcomes
