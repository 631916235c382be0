"""Manual dispatch through Buildbot's REST interface: a force creates a run, or is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Rig, Row, git

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("master force")]


def _forced(rig: Rig, **parameters: Any) -> Row:
    known = len(rig.runs())
    answer = rig.force(**parameters)
    assert answer.status_code == 200, answer.text
    rig.wait(lambda: len(rig.runs()) > known, "a run for the force")
    return rig.run_ended(rig.runs()[-1]["id"])


def test_a_force_on_main_runs_the_graph_and_publishes_nothing(rig: Rig) -> None:
    run = _forced(rig, ref="main", reason="to see")
    assert (run["kind"], run["acts_as"], run["trusted"], run["publish"]) == ("manual", "push", 1, 0)
    assert (run["result"], run["reason"], run["threads"]) == ("success", "by admin: to see", 4)
    assert run["head"] == git("rev-parse", "refs/heads/main", cwd=rig.repositories / "sample.git")


def test_the_answer_names_the_request_that_was_made(rig: Rig) -> None:
    answer = rig.force(ref="main")
    buildset, requests = answer.json()["result"]
    run = rig.run_ended(rig.runs()[-1]["id"])
    made = {(a["buildset_id"], a["request_id"]) for a in rig.attempts(run["id"])}
    assert all((buildset, request) in made for request in requests.values())


def test_a_force_of_chosen_stages_runs_these_and_what_they_need(rig: Rig) -> None:
    run = _forced(rig, ref="main", stages=["build-a"], threads=3)
    states = rig.states(run["id"])
    assert (states["build-a"], states["build-b"], states["summary"]) == ("success", "skipped", "success")
    assert rig.attempt(run["id"], "build-b")["reason"] == "not selected for this manual run"
    assert run["threads"] == 3


@pytest.mark.parametrize("publish", [True, False])
def test_a_force_on_a_tag_publishes_only_when_asked(rig: Rig, publish: bool) -> None:
    name = "v4.0" if publish else "v4.1"
    tag = rig.tag(name)
    rig.ended(tag)
    (rig.site.basedir / "releases" / name).rename(rig.folder / f"{name}-moved-away")
    run = _forced(rig, ref=name, publish=publish)
    assert rig.states(run["id"])["release"] == ("success" if publish else "skipped")
    assert (rig.site.basedir / "releases" / name).exists() == publish


def test_a_force_on_a_pull_request_is_untrusted_and_publishes_nothing(rig: Rig) -> None:
    pull = rig.pull_request(71)
    rig.ended(pull)
    run = _forced(rig, ref=pull.ref, publish=True)
    assert (run["acts_as"], run["trusted"], run["publish"]) == ("pull_request", 0, 0)
    workers = {a["worker"] for a in rig.attempts(run["id"]) if a["stage"] in ("test", "build-a", "build-b")}
    assert workers <= {"stranger", "stranger-2"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown ref": ({"ref": "nothing"}, "'nothing' is no branch, tag or full ref"),
    "an unknown field": ({"ref": "main", "colour": "red"}, "is no field of this form"),
    "an unknown stage": ({"ref": "main", "stages": ["nothing"]}, "nothing"),
    "no number": ({"ref": "main", "threads": "many"}, "many"),
    "too many threads": ({"ref": "main", "threads": 100000}, "must be 0 to 1024"),
    "a negative number": ({"ref": "main", "threads": -1}, "must be 0 to 1024"),
    "no ref": ({"ref": ""}, "ref"),
    "an option for git": ({"ref": "--upload-pack=touch"}, "is no branch"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_force_is_refused_with_its_reason(rig: Rig, what: str) -> None:
    parameters, said = REFUSED[what]
    known = len(rig.runs())
    answer = rig.force(**parameters)
    assert answer.status_code == 400, answer.text
    assert said in answer.text
    assert "Traceback" not in answer.text
    assert len(rig.runs()) == known


@pytest.mark.parametrize(
    ("path", "method"),
    [("forceschedulers/run", "force"), ("builds/1", "stop"), ("builds/1", "rebuild"), ("buildrequests/1", "cancel")],
)
def test_nobody_without_a_login_gives_orders(rig: Rig, path: str, method: str) -> None:
    rig.ended(rig.pull_request(90)) if not rig.runs() else None
    known = len(rig.runs())
    answer = rig.control(path, method, login=False, ref="main")
    assert answer.status_code == 403, answer.text
    assert len(rig.runs()) == known
