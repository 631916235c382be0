"""Clean restarts and new settings while runs are under way: runs follow, and nothing is lost or done twice."""

from __future__ import annotations

import pytest
from judge import Expected, all_well, assert_right, settled
from pipelines import WELL, commands, hold, pipeline
from rig import MakeRig, Rig

pytestmark = pytest.mark.slow


def _built_and_held(rig: Rig) -> list[Expected]:
    """A push whose build-a is being built until the flag is raised, and whose build-b is done."""
    pushed = rig.push({"ci/build-a.sh": hold(rig, "go")})
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, "build-b", "success")
    rig.wait_for_state(run_id, "build-a", "running")
    return all_well([pushed])


def _begun(rig: Rig) -> list[list[str]]:
    return [line for line in rig.effects() if line[:2] == ["begin", "build-a"]]


def test_a_clean_restart_in_the_middle_of_a_build(make_rig: MakeRig) -> None:
    """Its build is lost and runs again; that is the master's doing, so no stage pays for it."""
    rig = make_rig(pipeline(scheduling={"infrastructure_retries": 0}))
    rig.inject()
    rig.start(["reliable"])
    expected = _built_and_held(rig)
    for restarts in (1, 2):
        rig.end("master")
        rig.start_master()
        assert rig.attempt(1, "build-a")["state"] != "cancelled", "the master's restart has cancelled it"
        rig.wait(lambda times=restarts + 1: len(_begun(rig)) == times, "it is built again")
    rig.flag("go")
    settled(rig, expected)
    assert_right(rig, expected)
    attempt = rig.attempt(1, "build-a")
    assert (attempt["lost_with_master"], attempt["lost_with_worker"]) == (2, 0)


def test_a_clean_restart_of_everything_at_once(make_rig: MakeRig) -> None:
    """As ``Ctrl-C`` on ``ci/up`` and a second ``ci/up`` do it: workers first."""
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    expected = _built_and_held(rig)
    rig.site.stop()
    rig.flag("go")
    rig.start(["reliable"])
    settled(rig, expected)
    assert_right(rig, expected)


def test_new_settings_with_stages_added_removed_and_rewired(make_rig: MakeRig) -> None:
    """build-b goes although it has succeeded, build-c comes, and the summary waits for that alone."""
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    (pushed,) = (e.pushed for e in _built_and_held(rig))
    tables = pipeline()
    del tables["stages"]["build-b"]
    tables["stages"]["build-c"] = commands("build-c", needs=["build-a"])
    tables["stages"]["release"]["needs"] = ["build-a"]
    tables["stages"]["summary"]["needs"] = ["build-c"]
    rig.configure(tables)
    rig.reload()
    rig.wait_for_state(1, "build-c", "pending")
    assert rig.attempt(1, "build-a")["state"] == "running"
    rig.flag("go")
    expected = [Expected(pushed=pushed, states={"build-c": "success"})]
    settled(rig, expected)
    assert_right(rig, expected)
    times = {a["stage"]: a for a in rig.attempts(1)}
    assert times["build-c"]["started_at"] >= times["build-a"]["ended_at"]
    assert times["summary"]["started_at"] >= times["build-c"]["ended_at"]


def test_new_settings_without_the_stage_that_is_being_built(make_rig: MakeRig) -> None:
    """Its build is stopped, what needed it goes on, and its own request does not stay open."""
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    (pushed,) = (e.pushed for e in _built_and_held(rig))
    tables = pipeline()
    del tables["stages"]["build-a"]
    tables["stages"]["release"]["needs"] = ["build-b"]
    tables["stages"]["summary"]["needs"] = ["build-b"]
    rig.configure(tables)
    rig.reload()
    expected = [Expected(pushed=pushed, states={"build-a": "cancelled"})]
    settled(rig, expected)
    assert_right(rig, expected)
    assert rig.attempt(1, "build-a")["reason"] == "the stage was removed from the settings"


def test_new_settings_without_a_stage_that_waits_for_a_worker(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject()
    rig.start(["stranger"])
    pushed = rig.push()
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, "test", "queued")
    tables = pipeline()
    del tables["stages"]["test"]
    for stage in ("build-a", "build-b"):
        tables["stages"][stage]["needs"] = []
    tables["stages"]["summary"]["needs"] = ["build-a", "build-b"]
    rig.configure(tables)
    rig.reload()
    rig.wait_for_state(run_id, "test", "cancelled")
    rig.site.start_worker("reliable")
    expected = [Expected(pushed=pushed, states={"test": "cancelled"})]
    settled(rig, expected)
    assert_right(rig, expected)


def test_a_kill_right_after_new_settings(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    (pushed,) = (e.pushed for e in _built_and_held(rig))
    tables = pipeline()
    del tables["stages"]["build-a"]
    tables["stages"]["release"]["needs"] = ["build-b"]
    tables["stages"]["summary"]["needs"] = ["build-b"]
    rig.configure(tables)
    rig.kill("master")
    rig.start_master()
    expected = [Expected(pushed=pushed, states={"build-a": "cancelled"})]
    settled(rig, expected)
    assert_right(rig, expected)


def test_new_settings_leave_waiting_builds_startable(make_rig: MakeRig) -> None:
    """What the old gate let through, the new one does; and workers stay connected."""
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    first, run_id = rig.push({"ci/test.sh": hold(rig, "go")}), 1
    rig.wait_for_state(run_id, "test", "running")
    others = [rig.tag("v1.0"), rig.tag("v1.1"), rig.tag("v1.2")]  # max_builds = 2: some wait in Buildbot's queue
    for other in others:
        rig.wait_for_state(rig.run(other)["id"], "test", "queued", "running")
    before = rig.log().count("attaching from")
    rig.reload()
    rig.flag("go")
    expected = all_well([first, *others])
    settled(rig, expected)
    assert_right(rig, expected)
    assert rig.log().count("attaching from") == before, "a worker was thrown out by settings that do not change it"


def test_bad_settings_change_nothing(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    expected = _built_and_held(rig)
    good = rig.tables
    rig.configure({**pipeline(), "stages": {**pipeline()["stages"], "summary": {"needs": ["nothing"]}}})
    rig.reload()
    assert "stages.summary.needs" in rig.log()
    assert "nothing" in rig.log()
    rig.flag("go")
    more = rig.tag("v1.0")
    settled(rig, [*expected, *all_well([more])])
    rig.configure(good)
    rig.reload()
    assert_right(rig, [*expected, *all_well([more])])
    assert rig.states(1) == WELL["push"]
