"""A master killed while it starts, when it works already and Buildbot does not count it as active yet.

Buildbot cleans up (claims of pollers, running builds, claimed requests) behind a master that had been active, and
only then; a life that ended before it counted leaves all of it to a next one that believes there is nothing.
"""

from __future__ import annotations

import pytest
from judge import all_well, assert_right, settled
from rig import MakeRig

pytestmark = [
    pytest.mark.slow,
]
PAUSE = "services started / master not active"


def test_the_next_master_sees_what_is_pushed(make_rig: MakeRig) -> None:
    """The poller was claimed by the life that ended."""
    rig = make_rig()
    rig.inject(window=PAUSE)
    rig.start_master(wait=False)
    with rig.paused():
        rig.wait(lambda: rig.rows("select 1 from changesource_masters"), "the poller is claimed")
        rig.kill("master")
    rig.start(["reliable"])
    expected = all_well([rig.push()])
    settled(rig, expected, seconds=15)
    assert_right(rig, expected)
