"""Running again: a Rebuild on Buildbot's page, "run the failed stages again", and retries by themselves."""

from __future__ import annotations

import pytest
from pipelines import WELL, pipeline
from rig import MakeRig, Rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("master repeat")]


def _fails_until(rig: Rig, flag: str, stage: str = "build-a", code: int = 1) -> dict[str, str]:
    return {f"ci/{stage}.sh": f"[ -e {rig.flags}/{flag} ] || {{ echo 'error: not {flag} yet'; exit {code}; }}\n"}


def _numbers(rig: Rig, run_id: int) -> dict[str, int]:
    return {a["stage"]: a["number"] for a in rig.attempts(run_id)}


def test_failed_stages_run_again_and_what_succeeded_is_kept(rig: Rig) -> None:
    broken = rig.pull_request(61, _fails_until(rig, "mended"))
    tagged = rig.tag("v5.0", revision=broken.head)
    run = rig.ended(tagged)
    rig.ended(broken)
    assert rig.states(run["id"])["release"] == "blocked"
    rig.flag("mended")
    answer = rig.order(f"runs/{run['id']}/repeat", stage="")
    assert answer.json()["attempts"] == ["build-a/default/2", "release/default/2", "summary/default/2"]
    rig.wait(lambda: rig.runs(tagged)[0]["result"] == "success", "the run ended again, well")
    assert rig.states(run["id"]) == WELL["tag"]
    assert _numbers(rig, run["id"]) == {"test": 1, "build-a": 2, "build-b": 1, "release": 2, "summary": 2}
    assert (rig.site.basedir / "releases" / "v5.0" / "release.json").exists()
    assert rig.journal(run["id"])[-1].startswith("run again by admin: runs build-a/default/2")
    assert "attempt 2" in rig.summary(run["id"])


def test_repeating_a_run_in_which_all_went_well_is_refused(rig: Rig) -> None:
    run = rig.ended(rig.pull_request(62))
    answer = rig.order(f"runs/{run['id']}/repeat", stage="")
    assert answer.status_code == 409
    assert answer.json()["error"] == "every stage ended well; name a stage to run it again"


def test_a_rebuild_on_buildbots_page_is_a_new_attempt(rig: Rig) -> None:
    pushed = rig.pull_request(63, _fails_until(rig, "rebuilt"))
    run = rig.ended(pushed)
    rig.flag("rebuilt")
    assert rig.control(f"builds/{rig.attempt(run['id'], 'build-a')['build_id']}", "rebuild").status_code == 200
    rig.wait(lambda: rig.runs(pushed)[0]["result"] == "success", "the run ended again, well")
    assert _numbers(rig, run["id"])["build-a"] == 2
    (copied,) = rig.rows(
        "select id from buildsets where rebuilt_buildid = ?", rig.attempts(run["id"], "build-a")[0]["build_id"]
    )
    request = rig.rows("select * from buildrequests where buildsetid = ?", copied["id"])[0]
    rig.wait(lambda: rig.rows("select 1 from buildrequests where id = ? and complete = 1", request["id"]), "it is gone")
    assert rig.builds(request["id"]) == [], "the request that Buildbot's Rebuild made went past the graph"
    assert rig.journal(run["id"])[-1].startswith("Rebuild: runs build-a/default/2")


def test_a_rebuild_of_a_published_release_is_refused_and_says_why(rig: Rig) -> None:
    run = rig.ended(rig.tag("v2.0"))
    rig.control(f"builds/{rig.attempt(run['id'], 'release')['build_id']}", "rebuild")
    rig.wait(lambda: rig.journal(run["id"]), "a line in the journal")
    assert rig.journal(run["id"]) == ["Rebuild: refused, release has already published what this run built"]
    assert _numbers(rig, run["id"])["release"] == 1
    rig.wait(lambda: not rig.rows("select 1 from buildrequests where complete = 0"), "no request is left open")


def test_a_rebuild_behind_a_published_release_is_refused(rig: Rig) -> None:
    run = rig.ended(rig.tag("v2.1"))
    rig.control(f"builds/{rig.attempt(run['id'], 'build-a')['build_id']}", "rebuild")
    rig.wait(lambda: rig.journal(run["id"]), "a line in the journal")
    assert rig.journal(run["id"]) == ["Rebuild: refused, release has already published what this run built"]


def test_a_superseded_run_is_not_repeated(rig: Rig) -> None:
    older = rig.pull_request(64, {"ci/build-a.sh": "sleep 60\n"})
    rig.wait_for_state(rig.run(older)["id"], "build-a", "running")
    newer = rig.ended(rig.pull_request(64, {"ci/build-a.sh": ""}, again=True))
    run = rig.ended(older)
    answer = rig.order(f"runs/{run['id']}/repeat", stage="build-a")
    assert (answer.status_code, answer.json()["error"]) == (409, f"the run was superseded by run {newer['id']}")


def test_an_infrastructure_failure_is_retried_by_itself(rig: Rig) -> None:
    pushed = rig.pull_request(65, _fails_until(rig, "network", code=75))
    run_id = rig.run(pushed)["id"]
    rig.attempt(run_id, "build-a")
    rig.wait(lambda: rig.attempts(run_id, "build-a")[0]["state"] == "infrastructure", "the first attempt failed")
    rig.flag("network")
    run = rig.run_ended(run_id)
    first, second = rig.attempts(run_id, "build-a")
    assert (run["result"], second["state"]) == ("success", "success")
    assert second["reason"] in ("", f"repeats attempt 1, which {first['reason']}")
    assert second["started_at"] - first["ended_at"] >= 4.5, "it waits before it tries again"


def test_a_code_failure_is_not_retried(rig: Rig) -> None:
    run = rig.ended(rig.pull_request(66, {"ci/build-a.sh": "echo 'error: yours'; exit 1\n"}))
    assert run["result"] == "failure"
    assert _numbers(rig, run["id"])["build-a"] == 1


def test_infrastructure_retries_are_bounded(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"infrastructure_retries": 1}))
    rig.start(["stranger"])
    run = rig.ended(rig.pull_request(61, _fails_until(rig, "never", code=75)))
    assert run["result"] == "infrastructure"
    assert [a["state"] for a in rig.attempts(run["id"], "build-a")] == ["infrastructure", "infrastructure"]
    assert "not the code's fault (error: not never yet); put it right and run it again" in rig.summary(run["id"])
