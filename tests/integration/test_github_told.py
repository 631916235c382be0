"""What GitHub shows of a run in the end is right, whatever GitHub or the master did in between."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from github_double import GitHubDouble
from pipelines import Tables, hold, pipeline
from rig import MakeRig, Pushed, Rig

SENT = r"POST .*/statuses/"
STAGES = ("test", "build-a", "build-b", "release", "summary")
ENDED = {f"mlc-ci/{name}": "success" for name in STAGES}
BEGUN = ENDED | {f"mlc-ci/{name}": "pending" for name in STAGES if name != "release"}  # that one is skipped at once


@pytest.fixture
def told(make_rig: MakeRig, github: GitHubDouble) -> Any:
    """Makes a rig, not started, whose master tells the double; ``github`` overrides settings."""

    def make(tables: Tables | None = None, **own: Any) -> Rig:
        access = {"repository": "acme/sample", "access": "app", "app_id": github.app_id, "api": github.url}
        rig = make_rig((tables or pipeline()) | {"github": {**access, "webhook": False, "vouched": [], **own}})
        key = rig.site.basedir / "secrets" / "github-app-key"
        key.touch(mode=0o600)
        key.write_text(github.app_key)
        return rig

    return make


def states(github: GitHubDouble, pushed: Pushed) -> dict[str, str]:
    return {context: status["state"] for context, status in github.statuses(pushed.head).items()}


def posted(github: GitHubDouble) -> list[dict[str, Any]]:
    return [each for each in github.requests("POST") if "/statuses/" in each["path"]]


def all_sent(rig: Rig) -> bool:
    return bool(rig.rows("select 1 from outbox")) and not rig.rows("select 1 from outbox where version > sent")


@pytest.mark.slow
def test_each_stage_and_the_run_are_told_from_beginning_to_end(told: Any, github: GitHubDouble) -> None:
    rig = told()
    rig.start()
    (rig.folder / "effect.sh").write_text(hold(rig, "go"))
    pushed = rig.push()
    rig.wait(lambda: states(github, pushed) == BEGUN, "all contexts there")
    rig.wait(lambda: github.statuses(pushed.head)["mlc-ci/test"]["description"] == "running", "the first one running")
    for kind in ("secondary", "limit", "primary"):
        github.fail(kind, SENT, retry_after=3)
    before = len(posted(github))
    rig.flag("go")
    run = rig.ended(pushed)
    rig.wait(lambda: states(github, pushed) == ENDED, "all contexts ended, through a storm of limits")
    found = github.statuses(pushed.head)
    assert found["mlc-ci/release"]["description"].startswith("skipped: runs for tag")
    assert {each["target_url"] for each in found.values()} == {f"{rig.site.url}#/pipelines/{run['id']}"}
    posts = posted(github)
    assert all(each["permissions"] == {"metadata": "read", "statuses": "write"} for each in posts if not each["fault"])
    limited = [(this, after) for this, after in itertools.pairwise(posts) if this["fault"]]
    assert len(limited) == 3
    gaps = [after["at"] - this["at"] for this, after in limited]
    assert min(gaps) >= 2, f"what GitHub says of when (3 s, or a whole second on the clock) was not heeded: {gaps}"
    assert before <= 2 * len(STAGES)
    assert len(posts) - before <= 2 * len(STAGES) + len(limited)
    rig.wait(lambda: all_sent(rig), "everything noted as sent")


@pytest.mark.slow
def test_an_outage_and_a_killed_master_cost_nothing_but_time(told: Any, github: GitHubDouble) -> None:
    rig = told()
    rig.start()
    github.fail("hang", SENT, acted=True)  # GitHub does it, and the master never learns
    pushed = rig.push()
    rig.wait(lambda: posted(github), "the first status at GitHub")
    rig.kill("master")
    github.mend()
    github.fail("error", ".*", count=0, status=502)
    before = len(github.requests())
    rig.start_master()
    rig.ended(pushed)
    assert "success" not in [states(github, pushed).get(name) for name in ENDED if name != "mlc-ci/release"]
    assert len(github.requests()) - before <= 8, "it does not knock at a closed door all the time"
    github.mend()
    before = len(github.requests())
    rig.wait(lambda: states(github, pushed) == ENDED, "the end told", seconds=60)
    rig.wait(lambda: all_sent(rig), "everything noted as sent")
    assert len(posted(github)) - before <= len(STAGES), "only the newest version of each row is sent"


@pytest.mark.slow
def test_what_github_refuses_is_said_in_the_run_and_not_tried_all_the_time(told: Any, github: GitHubDouble) -> None:
    github.forget(granted={"metadata": "read", "contents": "read"})
    rig = told()
    rig.start()
    run = rig.ended(rig.push())
    refused = "the App gets no token for statuses: write"
    rig.wait(lambda: any(refused in line for line in rig.journal(run["id"])), "the refusal in the run's journal")
    assert len([line for line in rig.journal(run["id"]) if refused in line]) == 1
    assert len(github.requests("POST")) <= 3
