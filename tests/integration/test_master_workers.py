"""Workers that are not there, go, come back, or never do."""

from __future__ import annotations

import signal
import sys

import pytest
from judge import all_well, assert_right, settled
from pipelines import WELL, hold, pipeline
from rig import MakeRig, Rig

pytestmark = pytest.mark.slow

UNSERVED = "no untrusted worker that can serve it is configured (stranger has no gpu)"


def _wants_a_gpu(policy: str, **scheduling: object) -> dict[str, object]:
    tables = pipeline(scheduling={"no_worker": "wait", **scheduling})
    tables["stages"]["build-b"] |= {"requires": {"os": "linux", "tools": ["gpu"]}, "no_worker": policy}
    return tables


def test_a_stage_that_no_worker_can_serve_is_skipped_or_fails_or_waits(make_rig: MakeRig) -> None:
    rig = make_rig(_wants_a_gpu("skip"))
    rig.start(["stranger"])
    run = rig.ended(rig.pull_request(1))
    assert run["result"] == "success"
    assert (rig.attempt(run["id"], "build-b")["state"], rig.attempt(run["id"], "build-b")["reason"]) == (
        "skipped",
        UNSERVED,
    )

    rig.configure(_wants_a_gpu("fail"))
    rig.reload()
    run = rig.ended(rig.pull_request(2))
    assert (run["result"], run["result_reason"]) == (
        "infrastructure",
        f"build-b failed for infrastructure ({UNSERVED})",
    )
    assert f"build-b: not the code's fault ({UNSERVED})" in rig.summary(run["id"])

    rig.configure(_wants_a_gpu("wait", queue_timeout=2))
    rig.reload()
    pushed = rig.pull_request(3)
    rig.wait(lambda: rig.attempt(rig.run(pushed)["id"], "build-b")["reason"] == UNSERVED, "it says why it waits")
    run = rig.ended(pushed)
    waited = rig.attempt(run["id"], "build-b")
    assert (waited["state"], waited["reason"]) == ("infrastructure", f"{UNSERVED} for 2 s (queue_timeout)")
    assert waited["ended_at"] - waited["waiting_since"] >= 2


def test_a_stage_starts_when_new_settings_bring_its_worker(make_rig: MakeRig) -> None:
    rig = make_rig(_wants_a_gpu("wait"))
    rig.start(["stranger"])
    pushed = rig.pull_request(1)
    rig.wait(lambda: rig.attempt(rig.run(pushed)["id"], "build-b")["reason"] == UNSERVED, "it says why it waits")
    tables = _wants_a_gpu("wait")
    tables["workers"]["stranger"]["provides"] = ["python", "gpu"]  # type: ignore[index]
    rig.configure(tables)
    rig.reload()
    run = rig.ended(pushed)
    assert (run["result"], rig.states(run["id"])) == ("success", WELL["pull_request"])


def test_a_worker_that_never_comes_back_ends_the_stage_and_says_so(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"queue_timeout": 3, "infrastructure_retries": 0}))
    rig.start(["stranger"])
    held = rig.pull_request(1, {"ci/build-a.sh": hold(rig, "never")})
    run_id = rig.run(held)["id"]
    rig.wait_for_state(run_id, "build-a", "running")
    waiting = rig.pull_request(2)
    rig.wait_for_state(rig.run(waiting)["id"], "build-a", "queued")
    rig.end("stranger")
    run = rig.run_ended(run_id)
    assert run["result"] == "infrastructure"
    assert rig.attempt(run_id, "build-a")["reason"] == "its worker was lost 1 times while building"
    waited = rig.ended(waiting)
    said = "no worker that can serve it was connected for 3 s (queue_timeout)"
    assert rig.attempt(waited["id"], "build-a")["reason"] == said
    assert f"build-a: not the code's fault ({said}); put it right and run it again" in rig.summary(waited["id"])
    assert not rig.rows("select 1 from buildrequests where complete = 0")
    # the master lives on, and what comes later is served
    rig.site.start_worker("stranger")
    assert rig.ended(rig.pull_request(3))["result"] == "success"


def test_a_worker_killed_while_it_builds_is_started_again_and_builds_it_once(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    pushed = rig.push({"ci/build-a.sh": hold(rig, "go")})
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, "build-b", "success")
    rig.wait_for_state(run_id, "build-a", "running")
    rig.kill("reliable")  # and with it, by its own doing, every process of its builds
    rig.wait(lambda: not [line for line in rig.left() if "effect.sh" in line], "the killed worker's command is gone")
    rig.wait_for_state(run_id, "build-a", "queued")
    assert rig.attempt(run_id, "build-a")["reason"] == "its worker was lost"
    rig.flag("go")
    rig.site.start_worker("reliable")
    expected = all_well([pushed])
    settled(rig, expected)
    assert_right(rig, expected)
    attempt = rig.attempt(run_id, "build-a")
    assert (attempt["lost_with_worker"], attempt["lost_with_master"]) == (1, 0)
    assert [b["results"] for b in rig.builds(attempt["request_id"])] == [5, 0]


def test_a_worker_that_dies_again_and_again_is_no_endless_loop(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"infrastructure_retries": 1}))
    rig.start(["stranger"])
    run_id = rig.run(rig.pull_request(1, {"ci/build-a.sh": hold(rig, "never")}))["id"]
    for build in range(2):
        rig.wait(lambda b=build: len(_builds(rig, run_id)) == b + 1, f"build {build + 1} of build-a")
        rig.wait_for_state(run_id, "build-a", "running")
        rig.kill("stranger")
        rig.site.start_worker("stranger")
    run = rig.run_ended(run_id)
    assert (run["result"], len(_builds(rig, run_id))) == ("infrastructure", 2)
    assert rig.attempt(run_id, "build-a")["reason"] == "its worker was lost 2 times while building"
    assert not rig.rows("select 1 from buildrequests where complete = 0")


def _builds(rig: Rig, run_id: int) -> list[dict[str, object]]:
    attempts = rig.attempts(run_id, "build-a")
    return rig.builds(attempts[-1]["request_id"]) if attempts and attempts[-1]["request_id"] else []


def test_a_worker_that_is_killed_and_started_by_its_own_supervisor(make_rig: MakeRig) -> None:
    """Only the innermost process dies, as by the kernel's memory killer; nobody restarts anything by hand."""
    rig = make_rig()
    rig.inject()
    rig.start(["reliable"])
    pushed = rig.push({"ci/build-a.sh": hold(rig, "go")})
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, "build-b", "success")
    rig.wait_for_state(run_id, "build-a", "running")
    rig.signal_innermost("reliable", signal.SIGKILL)
    rig.wait(lambda: len(_builds(rig, run_id)) == 2, "build-a is built again")
    rig.flag("go")
    expected = all_well([pushed])
    settled(rig, expected)
    assert_right(rig, expected)


def test_a_worker_that_dies_while_its_build_is_being_prepared(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject(window="build begun / worker not prepared")
    rig.start(["reliable"])
    pushed = rig.push()
    run_id = rig.run(pushed)["id"]
    with rig.paused():
        rig.kill("reliable")
        rig.wait(lambda: not rig.connected("reliable"), "the master has noticed")
    rig.site.start_worker("reliable")
    expected = all_well([pushed])
    settled(rig, expected, seconds=15)
    assert_right(rig, expected)
    assert [b["results"] for b in rig.builds(rig.attempt(run_id, "test")["request_id"])] == [5, 0]


def test_what_waits_for_a_worker_of_another_version_says_so_until_it_is_mended(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start(["stranger"])
    worker = rig.process("stranger")
    right = worker.command
    worker.stop()
    other = "import sys, workers.cli as c; c.version = lambda: '9.8.7'; sys.exit(c.main(sys.argv[1:]))"
    worker.command = [sys.executable, "-c", other, *right[1:]]
    worker.start()
    pushed = rig.pull_request(1)
    run = rig.run(pushed)
    said = "no worker that fits is connected: stranger is not used, as versions do not fit: it has mlc-ci 9.8.7"
    rig.wait(lambda: rig.attempt(run["id"], "test")["reason"].startswith(said), "it says why it waits")
    assert rig.attempt(run["id"], "test")["state"] == "queued"
    worker.stop()
    worker.command = right
    worker.start()
    assert rig.ended(pushed)["result"] == "success"
    assert rig.attempt(run["id"], "test")["reason"] == ""
