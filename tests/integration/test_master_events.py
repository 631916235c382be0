"""Each event does what the graph says for it, on the workers that its trust allows, and says so."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from judge import all_well, assert_right, settled
from pipelines import WELL
from rig import MakeRig, Pushed, Rig, git

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("master events")]

TRUSTED, UNTRUSTED = {"reliable", "reliable-2"}, {"stranger", "stranger-2"}


def workers_of(rig: Rig, pushed: Pushed) -> set[str]:
    """Which workers' folders the run's commands stood in, by their own account."""
    return {worker for _, _, _, head, worker in rig.effects() if head == pushed.head}


def test_a_push(rig: Rig) -> None:
    pushed = rig.push()
    run = rig.ended(pushed)
    assert (run["result"], run["acts_as"], run["trusted"], run["publish"]) == ("success", "push", 1, 1)
    assert rig.states(run["id"]) == WELL["push"]
    assert rig.attempt(run["id"], "release")["reason"] == "runs for tag, and this is a push"
    assert workers_of(rig, pushed) <= TRUSTED
    assert workers_of(rig, pushed)


def test_a_pull_request_runs_merged_with_its_base(rig: Rig) -> None:
    pushed = rig.pull_request(1, {"ci/test.sh": "git log -1 --format=%P\n"})
    run = rig.ended(pushed)
    assert (run["result"], run["trusted"], run["publish"], run["pull_request"]) == ("success", 0, 0, 1)
    assert rig.states(run["id"]) == WELL["pull_request"]
    said = rig.step_log(rig.attempt(run["id"], "test")["build_id"], step=_effect_step(rig, run["id"], "test"))
    assert pushed.head in said, "what is tested holds the head"
    assert run["base"] == git("rev-parse", "refs/heads/main", cwd=rig.repositories / "sample.git")


def test_a_pull_request_never_meets_a_trusted_worker(rig: Rig) -> None:
    """Trusted workers idle all the while, and there are more requests than untrusted slots."""
    pushed = [rig.pull_request(number, {"ci/test.sh": "sleep 0.3\n"}) for number in range(10, 16)]
    runs = [rig.ended(p) for p in pushed]
    query = (
        "select distinct w.name from builds b join workers w on w.id = b.workerid"
        " join stage_attempts a on a.request_id = b.buildrequestid where a.run_id = ? and a.stage != 'summary'"
    )
    ran_on = {row["name"] for run in runs for row in rig.rows(query, run["id"])}
    assert ran_on == UNTRUSTED


def test_trusted_runs_never_meet_an_untrusted_worker(rig: Rig) -> None:
    pushed = [rig.push({f"changes/t{n}": "", "ci/test.sh": "sleep 0.3\n"}) for n in range(1)]
    pushed += [rig.tag(f"v7.{n}") for n in range(4)]
    for each in pushed:
        rig.ended(each)
    query = (
        "select distinct w.name from builds b join workers w on w.id = b.workerid"
        " join stage_attempts a on a.request_id = b.buildrequestid join runs r on r.id = a.run_id"
        " where r.trusted = 1 and a.stage != 'summary'"
    )
    assert {row["name"] for row in rig.rows(query)} == TRUSTED
    rig.ended(rig.push({"ci/test.sh": ""}))


def test_a_tag_is_released(rig: Rig) -> None:
    tagged = rig.tag("v1.0")
    run = rig.ended(tagged)
    assert (run["result"], run["tag"], run["trusted"]) == ("success", "v1.0", 1)
    assert rig.states(run["id"]) == WELL["tag"]
    public = rig.site.basedir / "releases" / "v1.0"
    names = {"build_a-1.0-py3-none-any.whl", "build_b-1.0-py3-none-any.whl"}
    assert {p.name for p in public.iterdir()} == names | {"SHA256SUMS", "RELEASE_NOTES.md", "release.json"}
    manifest = json.loads((public / "release.json").read_text())
    assert (manifest["tag"], manifest["commit"]) == ("v1.0", tagged.head)
    for name in names:
        assert manifest["assets"][name]["sha256"] == hashlib.sha256((public / name).read_bytes()).hexdigest()


def test_a_tag_that_does_not_match_the_pattern_is_no_event(rig: Rig) -> None:
    where = rig.repositories / "sample.git"
    git("tag", "nightly", "refs/heads/main", cwd=where)
    run = rig.ended(rig.tag("v1.1"))
    assert not rig.rows("select 1 from runs where ref = 'refs/tags/nightly'")
    assert run["result"] == "success"


def test_another_branch_is_no_event(rig: Rig) -> None:
    git("update-ref", "refs/heads/feature", "refs/heads/main", cwd=rig.repositories / "sample.git")
    rig.ended(rig.tag("v1.2"))
    assert not rig.rows("select 1 from runs where ref = 'refs/heads/feature'")


def test_a_ref_that_comes_back_runs_again(rig: Rig) -> None:
    """main is reset to where it was, and that is two events for one commit."""
    where = rig.repositories / "sample.git"
    old = git("rev-parse", "refs/heads/main", cwd=where)
    known = len(rig.rows("select 1 from runs where kind = 'push' and head = ?", old))
    rig.ended(rig.push())
    git("update-ref", "refs/heads/main", old, cwd=where)
    query = "select id from runs where kind = 'push' and head = ? order by id"
    rig.wait(lambda: len(rig.rows(query, old)) == known + 1, "a run for the commit that came back")
    assert rig.run_ended(rig.rows(query, old)[-1]["id"])["result"] == "success"


def test_a_failing_build_blocks_what_needs_it_and_the_summary_says_what_to_do(rig: Rig) -> None:
    pushed = rig.push({"ci/build-a.sh": "echo 'cpp/main.cc:7:3: error: no such thing'; exit 1\n"})
    run = rig.ended(pushed)
    fixed = rig.push({"ci/build-a.sh": ""})
    reason = "cpp/main.cc:7:3: error: no such thing"
    assert (run["result"], run["result_reason"]) == ("failure", f"build-a failed ({reason})")
    said = rig.summary(run["id"])
    assert "failed: build-a" in said
    assert f"- build-a: {reason}\n" in said
    found = re.search(r"log: \S+#/(builders/\d+/builds/\d+/steps/\d+/logs/stdio) \(step .*, line (\d+)\)\n", said)
    assert found
    with rig.browser(login=False) as client:
        line = client.get(f"api/v2/{found[1]}/contents", params={"offset": int(found[2]) - 1, "limit": 1}).json()
    assert line["logchunks"][0]["content"].strip("o\n") == reason
    assert f"mlc-ci reproduce {run['id']} build-a\n" in said
    assert f"mlc-ci retry {run['id']}" in said
    tagged = rig.tag("v1.3", revision=pushed.head)
    assert rig.ended(tagged)["result"] == "failure"
    states = rig.states(rig.run(tagged)["id"])
    assert (states["build-a"], states["build-b"], states["release"]) == ("failure", "success", "blocked")
    release = rig.attempt(rig.run(tagged)["id"], "release")
    assert release["reason"] == f"needs build-a, which failed ({reason})"
    assert not (rig.site.basedir / "releases" / "v1.3").exists()
    rig.ended(fixed)


def test_a_failing_test_stage_warns_and_the_rest_proceeds(rig: Rig) -> None:
    run = rig.ended(rig.pull_request(30, {"ci/test.sh": "exit 3\n"}))
    assert run["result"] == "warnings"
    assert rig.states(run["id"]) == {**WELL["pull_request"], "test": "warnings"}
    assert "passed, with warnings: test" in rig.summary(run["id"])


def test_a_pull_request_that_does_not_merge_says_so(rig: Rig) -> None:
    """Its base moved on in the same line after it was opened: nothing that could be tested exists."""
    where = rig.repositories / "sample.git"
    rig.ended(rig.push({"conflict.txt": "one\n"}))
    stale = rig.pull_request(31, {"conflict.txt": "two\n"})
    rig.ended(stale)
    rig.ended(rig.push({"conflict.txt": "three\n"}))
    newer = rig.pull_request(31, {"changes/more": ""}, again=True)
    run = rig.ended(newer)
    assert run["base"] == git("rev-parse", "refs/heads/main", cwd=where)
    assert rig.states(run["id"])["build-a"] == "failure"
    assert "conflict" in rig.attempt(run["id"], "build-a")["reason"].lower()


def test_the_judge_finds_nothing_wrong_with_a_quiet_day(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.inject()
    rig.start()
    expected = all_well([rig.push(), rig.pull_request(1), rig.tag("v1.0")])
    settled(rig, expected)
    assert_right(rig, expected)


def _effect_step(rig: Rig, run_id: int, stage: str) -> str:
    query = "select name from steps where buildid = ? and name like 'sh %'"
    return str(rig.rows(query, rig.attempt(run_id, stage)["build_id"])[0]["name"])


@pytest.mark.parametrize("path", ["runs", "runs/1"])
def test_the_api_tells_what_the_tables_say(rig: Rig, path: str) -> None:
    rig.ended(rig.pull_request(50 if path == "runs" else 51))
    with rig.browser(login=False) as client:
        answer = client.get(f"plugins/mlc_ci/api/{path}").json()
    run = answer["runs"][-1] if path == "runs" else answer
    rows = rig.states(run["id"])
    assert {stage["name"]: stage["state"] for stage in run["stages"]} == rows
