"""Moments between two of Buildbot's own steps in which a build, or the whole pipeline, once stayed for good."""

from __future__ import annotations

import time

import pytest
from judge import Expected, all_well, assert_right, settled
from pipelines import WELL, hold, pipeline, workers
from rig import MakeRig

from master.handover import FORGOTTEN_S

pytestmark = pytest.mark.slow


def test_a_cancel_between_a_claim_and_its_build_ends_the_build_and_frees_the_worker(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline())
    rig.inject(window="request claimed / no build row")
    rig.start(["stranger"])
    pushed = rig.pull_request(1)
    with rig.paused():
        run_id = rig.run(pushed)["id"]
        assert rig.order(f"runs/{run_id}/cancel").status_code == 200
        rig.wait(lambda: rig.attempt(run_id, "test")["withdrawn"], "it is withdrawn")
        request = rig.attempt(run_id, "test")["request_id"]
        rig.wait(lambda: "cancel" in rig.log(), "Buildbot has heard of it")
    ended = rig.run_ended(run_id)
    assert (ended["result"], rig.attempt(run_id, "test")["state"]) == ("cancelled", "cancelled")
    [build] = rig.builds(request)
    assert (build["results"], build["complete_at"] is not None) == (6, True)
    run = rig.ended(rig.pull_request(2))
    assert rig.states(run["id"]) == WELL["pull_request"], "the worker is free again"


def test_a_kill_before_the_request_of_a_lost_build_was_cancelled_does_not_stop_the_pipeline(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"infrastructure_retries": 0}))
    rig.inject()
    rig.start(["stranger"])
    pushed = rig.pull_request(1, {"ci/build-a.sh": hold(rig, "never")})
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, "build-b", "success")
    rig.wait_for_state(run_id, "build-a", "running")
    rig.inject(window="cancel intent written / not carried out")
    rig.kill("stranger")
    rig.wait_for_the_window()
    rig.inject()
    rig.start_master()
    rig.site.start_worker("stranger")
    assert rig.run_ended(run_id)["result"] == "infrastructure"
    later = rig.pull_request(2, {"ci/build-a.sh": ""})
    lost = Expected(pushed=pushed, result="infrastructure", states={"build-a": "infrastructure"})
    expected = [lost, *all_well([later])]
    settled(rig, expected)
    assert_right(rig, expected)


def test_a_worker_that_leaves_between_a_claim_and_its_build_does_not_take_the_request_along(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(workers=workers("reliable-2")))
    rig.inject(window="request claimed / build not made")
    rig.start(["reliable"])
    pushed = rig.push()
    with rig.paused():
        request = rig.attempt(rig.run(pushed)["id"], "test")["request_id"]
        rig.kill("reliable")
        rig.wait(lambda: not rig.connected("reliable"), "the master has noticed")
    rig.site.start_worker("reliable-2")
    claims = rig.rows("select claimed_at from buildrequest_claims where brid = ?", request)
    assert claims, "Buildbot has kept its claim"
    rig.wait(lambda: time.time() > claims[0]["claimed_at"] + FORGOTTEN_S + 1, "it was claimed long ago")
    rig.reload()
    expected = all_well([pushed])
    settled(rig, expected)
    assert_right(rig, expected)
