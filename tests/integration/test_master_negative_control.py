"""Schedulers that are wrong on purpose: if the judge did not notice these, its silence would be worth nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from judge import Expected, all_well, judge, release_identity, settled, superseded
from pipelines import hold
from rig import MakeRig, Rig

pytestmark = pytest.mark.slow

#: What is broken, the window in which the master is killed (none: it lives), what the developer does, and words
#: of what the judge must say.
CONTROLS = {
    "forgets to adopt by external id": ("buildset added / id not stored", "push", "handed to Buildbot 2 times"),
    "runs finished builds again": ("build finished / request not completed", "push", "run again after build"),
    "drops the inbox on start": ("inbox written / run not created", "push", "no run for"),
    "settles without the artifacts": ("", "push", "lists the artifacts []"),
    "lists files of other builds": ("", "push", "lists the artifacts ['"),
    "ignores cancelled": ("", "supersede", "has not ended"),
    "lets every build start anywhere": ("", "lone stranger", "ran on the untrusted worker stranger"),
    "publishes again": ("release revealed / build not finished", "tag", "a release was replaced"),
    "forgets live runs": ("outcome accepted / next stage not queued", "push", "has not ended"),
    "repeats what a kill interrupted": ("build begun / its steps not", "push", "has the attempts [1, 2]"),
}


@pytest.mark.parametrize("broken", CONTROLS)
def test_the_judge_notices(broken: str, make_rig: MakeRig) -> None:
    window, scenario, words = CONTROLS[broken]
    rig = make_rig()
    rig.inject(broken=broken, window=window)
    rig.start(["stranger"] if scenario in ("supersede", "lone stranger") else ["reliable"])
    expected = SCENARIOS[scenario](rig)
    public = {}
    if window:
        rig.wait_for_the_window()
        public = release_identity(rig)
        rig.start_master()
    settled(rig, expected, seconds=12)
    found = judge(rig, expected)
    if not release_identity(rig).items() >= public.items():
        found.append("a release was replaced")
    assert [problem for problem in found if words in problem], found


def _supersede(rig: Rig) -> list[Expected]:
    older = rig.pull_request(1, {"ci/build-a.sh": hold(rig, "never")})
    rig.wait_for_state(rig.run(older)["id"], "build-a", "running")
    newer = rig.pull_request(1, {"ci/build-a.sh": ""}, again=True)
    return [superseded(older, build_a="cancelled"), *all_well([newer])]


SCENARIOS: dict[str, Callable[[Rig], list[Expected]]] = {
    "push": lambda rig: all_well([rig.push()]),
    "tag": lambda rig: all_well([rig.tag("v1.0")]),
    "supersede": _supersede,
    "lone stranger": lambda rig: all_well([rig.push()]),
}
