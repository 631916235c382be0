"""From a webhook to its run: once, in order, through kills, outages and whatever GitHub delivers late or twice."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from deliver import SECRET, Sender, give_secret, signed
from github_double import GitHubDouble
from pipelines import Tables, commands, pipeline
from rig import HERE, MakeRig, Pushed, Rig, load_module, repository

pytestmark = pytest.mark.slow

Payload = dict[str, Any]
LATER = "2026-06-01T00:00:00Z"


def tables(**github: Any) -> Tables:
    """One stage that a pull request waits in, for a worker that never comes, and one that a push skips."""
    own = {"repository": "sample/sample", "statuses": False, "comment": False, **github}
    return {
        **pipeline(),
        "project": {"poll_interval": 0},
        "github": own,
        "stages": {"build": commands("build", paths_ignore=["docs/"]), "summary": {"needs": ["build"]}},
    }


@pytest.fixture
def served(make_rig: MakeRig) -> Callable[..., Rig]:
    """Makes a rig with a running master and no worker; ``github`` is of the settings."""

    def make(*, start: bool = True, **github: Any) -> Rig:
        rig = make_rig(tables(**github))
        give_secret(rig)
        rig.inject()
        if start:
            rig.start_master()
        return rig

    return make


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A running master without access to GitHub, shared: each test brings refs of its own."""
    made = Rig(tmp_path_factory.mktemp("events") / "rig", template, tables())
    give_secret(made)
    try:
        made.start_master()
        yield made
    finally:
        made.stop()


def pull_request(
    rig: Rig, number: int, *, again: bool = False, at: str = "", association: str = "MEMBER"
) -> tuple[Payload, Pushed]:
    done = repository.pull_request(rig.repositories, number, synchronize=again, association=association)
    payload = done["payload"]
    payload["pull_request"]["updated_at"] = at or payload["pull_request"]["updated_at"]
    return payload, Pushed(kind="pull_request", ref=done["ref"], head=done["head"])


def acted_upon(rig: Rig, number: str) -> tuple[str, str]:
    """What became of a delivery: state and outcome."""
    query = "select state, outcome from deliveries where delivery = ? and state != 'new'"
    rig.wait(lambda: rig.rows(query, number), "the delivery is acted upon")
    rig.wait(lambda: not rig.rows("select 1 from inbox where state = 'new'"), "the inbox is read")
    row = rig.rows(query, number)[0]
    return row["state"], row["outcome"]


def changed(payload: Payload, action: str, at: str, **more: Any) -> Payload:
    pull = {**payload["pull_request"], "updated_at": at}
    return {**payload, "action": action, "pull_request": pull, **more}


# -- kills


def a_push(rig: Rig) -> tuple[Payload, Pushed]:
    done = repository.push(rig.repositories)
    return done["payload"], Pushed(kind="push", ref=done["ref"], head=done["after"])


@pytest.mark.parametrize("window", load_module(HERE / "injection.py").DELIVERY_WINDOWS)
def test_a_kill_between_a_delivery_and_its_run(window: str, served: Callable[..., Rig]) -> None:
    rig = served()
    payload, pushed = a_push(rig)
    number = str(uuid.uuid4())
    rig.inject(window=window)
    with contextlib.suppress(httpx.HTTPError):  # the answer may die with the master
        Sender(rig).send("push", payload, delivery=number)
    rig.wait_for_the_window()
    rig.start_master()
    assert acted_upon(rig, number)[0] == "done"
    Sender(rig).send("push", payload, delivery=number)  # GitHub has no answer, and delivers again
    assert acted_upon(rig, number)[0] == "done"
    assert len(rig.runs(pushed)) == 1
    assert len(rig.rows("select 1 from inbox")) == 1


def test_the_test_of_a_kill_would_notice_a_delivery_that_was_not_kept(served: Callable[..., Rig]) -> None:
    rig = served(start=False)
    rig.inject(broken="answers before it keeps", window="delivery kept / GitHub not answered")
    rig.start_master()
    payload, pushed = a_push(rig)
    with contextlib.suppress(httpx.HTTPError):
        Sender(rig).send("push", payload)
    rig.wait_for_the_window()
    rig.start_master()
    fresh, _ = a_push(rig)
    acted_upon(rig, Sender(rig).send("push", fresh))
    assert not rig.runs(pushed)


def test_the_test_of_order_would_notice_a_master_that_believes_what_comes_late(served: Callable[..., Rig]) -> None:
    rig = served(start=False)
    rig.inject(broken="believes what comes late")
    rig.start_master()
    older, first = pull_request(rig, 7)
    newer, second = pull_request(rig, 7, again=True, at=LATER)
    acted_upon(rig, Sender(rig).send("pull_request", newer))
    acted_upon(rig, Sender(rig).send("pull_request", older))
    assert rig.runs(first)
    assert rig.run(second)["cancelled"].startswith("superseded")


def test_a_delivery_that_could_not_be_kept_is_a_failure_to_github(served: Callable[..., Rig]) -> None:
    rig = served()
    payload, pushed = a_push(rig)
    with contextlib.closing(sqlite3.connect(rig.database)) as connection:
        connection.execute("alter table deliveries rename to gone")
        body = json.dumps(payload).encode()
        answer = Sender(rig).post("push", body, signed(body))
        assert answer.status_code == 500
        connection.execute("alter table gone rename to deliveries")
    number = Sender(rig).send("push", payload)
    assert acted_upon(rig, number)[0] == "done"
    assert len(rig.runs(pushed)) == 1


# -- what a master without its secret does


@pytest.mark.parametrize("secret", ["", None])
def test_without_a_secret_the_master_does_not_start(secret: str | None, served: Callable[..., Rig]) -> None:
    rig = served(start=False)
    if secret is None:
        (rig.site.basedir / "secrets" / "github-webhook-secret").unlink()
    else:
        give_secret(rig, secret)
    with pytest.raises(Exception, match="github-webhook-secret"):
        rig.start_master(wait=False)


def test_without_a_webhook_nothing_is_taken_in(served: Callable[..., Rig]) -> None:
    rig = served(webhook=False)
    body = json.dumps(a_push(rig)[0]).encode()
    assert Sender(rig).post("push", body, signed(body)).status_code == 400
    assert not rig.rows("select 1 from deliveries")


def test_a_new_secret_counts_at_once(rig: Rig) -> None:
    body = json.dumps({"zen": "Design for failure."}).encode()
    give_secret(rig, "another")
    try:
        assert Sender(rig).post("ping", body, signed(body)).status_code == 400
        assert Sender(rig).post("ping", body, signed(body, "another")).is_success
    finally:
        give_secret(rig, SECRET)


# -- order


def test_a_pull_requests_newer_commit_supersedes_the_older(rig: Rig) -> None:
    sender = Sender(rig)
    older, first = pull_request(rig, 10)
    acted_upon(rig, sender.send("pull_request", older))
    newer, second = pull_request(rig, 10, again=True, at=LATER)
    acted_upon(rig, sender.send("pull_request", newer))
    assert rig.run(second)["cancelled"] == ""
    assert rig.run(first)["cancelled"].startswith("superseded")


@pytest.mark.parametrize("action", ["opened", "synchronize"])
def test_an_older_event_that_comes_late_does_not_supersede_the_newer_run(action: str, rig: Rig) -> None:
    number = {"opened": 11, "synchronize": 12}[action]
    sender = Sender(rig)
    older, first = pull_request(rig, number)
    newer, second = pull_request(rig, number, again=True, at=LATER)
    acted_upon(rig, sender.send("pull_request", newer))
    state, outcome = acted_upon(rig, sender.send("pull_request", {**older, "action": action}))
    assert (state, outcome[:9]) == ("ignored", "came late")
    assert rig.run(second)["cancelled"] == ""
    assert not rig.runs(first)


def test_closing_cancels_and_reopening_runs_again(rig: Rig) -> None:
    sender = Sender(rig)
    payload, pushed = pull_request(rig, 20)
    opened = sender.send("pull_request", payload)
    closed = sender.send("pull_request", changed(payload, "closed", "2026-02-01T00:00:00Z"))
    assert acted_upon(rig, opened)[0] == "done"
    assert acted_upon(rig, closed)[1].startswith("cancelled run")
    run = rig.ended(pushed)
    assert (run["cancelled"], run["result"]) == ("the pull request was closed", "cancelled")
    reopened = sender.send("pull_request", changed(payload, "reopened", "2026-02-02T00:00:00Z"))
    assert acted_upon(rig, reopened) == ("done", f"run {run['id']} runs again")
    assert rig.run(pushed)["cancelled"] == ""
    assert rig.run(pushed)["ended_at"] is None
    late = sender.send("pull_request", changed(payload, "closed", "2026-02-01T00:00:00Z"))
    assert acted_upon(rig, late)[0] == "ignored"
    assert rig.run(pushed)["ended_at"] is None


def test_one_broken_delivery_does_not_hold_up_those_behind_it(rig: Rig) -> None:
    with contextlib.closing(sqlite3.connect(rig.database, timeout=30)) as connection:
        row = "insert into deliveries (delivery, name, received_at, payload, state) values (?, 'push', 0, ?, 'new')"
        connection.execute(row, ("broken-1", "{no json"))
        connection.execute(row, ("broken-2", '{"ref": 7}'))
        connection.commit()
    payload, pushed = a_push(rig)
    acted_upon(rig, Sender(rig).send("push", payload))
    assert rig.run(pushed)
    for name in ("broken-1", "broken-2"):
        assert acted_upon(rig, name)[0] == "refused"


# -- what kinds of events there are


def test_an_annotated_tag_is_one_run_whatever_its_message_says(rig: Rig) -> None:
    repository.push(rig.repositories, message="[skip ci] on purpose")
    done = repository.tag(rig.repositories, "v5.0")
    assert done["payload"]["after"] != done["commit"]
    acted_upon(rig, Sender(rig).send("push", done["payload"]))
    assert rig.run(Pushed(kind="tag", ref="refs/tags/v5.0", head=done["commit"]))


@pytest.mark.parametrize("listed", [0, 1, 5])
def test_a_push_is_one_run_however_many_commits_it_lists(listed: int, rig: Rig) -> None:
    payload, pushed = a_push(rig)
    payload["commits"] = payload["commits"][:1] * listed
    acted_upon(rig, Sender(rig).send("push", payload))
    assert len(rig.runs(pushed)) == 1


def test_a_repository_dispatch_is_a_manual_run(rig: Rig) -> None:
    payload, pushed = a_push(rig)
    about = {"repository": payload["repository"], "sender": payload["sender"], "action": "mlc-ci"}
    wish = {"ref": "main", "stages": ["build"], "reason": "nightly"}
    number = Sender(rig).send("repository_dispatch", {**about, "client_payload": wish})
    assert acted_upon(rig, number)[0] == "done"
    (run,) = rig.runs(Pushed(kind="manual", ref="refs/heads/main", head=pushed.head))
    assert (run["reason"], json.loads(run["selected"]), run["publish"]) == (
        "by sample on GitHub: nightly",
        ["build"],
        0,
    )
    for wrong, said in (({"stages": ["docker"]}, "no stage is called"), ({"ref": "nowhere"}, "is no branch, tag")):
        number = Sender(rig).send("repository_dispatch", {**about, "client_payload": wrong})
        state, outcome = acted_upon(rig, number)
        assert (state, said in outcome) == ("refused", True), outcome


def test_a_strangers_pull_request_is_held(rig: Rig) -> None:
    payload, pushed = pull_request(rig, 30, association="NONE")
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    assert rig.run(pushed)["held"]
    assert rig.run(pushed)["trusted"] == 0


def test_an_order_is_refused_where_github_cannot_be_asked_who_may_give_it(rig: Rig) -> None:
    payload, pushed = pull_request(rig, 31, association="NONE")
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    state, outcome = acted_upon(rig, Sender(rig).send("issue_comment", comment(payload, "/ci ok")))
    assert (state, "access" in outcome) == ("refused", True)
    assert rig.run(pushed)["held"]


def comment(payload: Payload, text: str, by: str = "maintainer", at: str = LATER) -> Payload:
    number = payload["number"]
    return {
        "action": "created",
        "issue": {"number": number, "pull_request": {"url": ""}},
        "comment": {"body": text, "user": {"login": by}, "created_at": at},
        "repository": payload["repository"],
        "sender": {"login": by},
    }


# -- with access to GitHub


@dataclass(frozen=True)
class Asking:
    """A running master that asks a double, shared: each test brings a pull request of its own."""

    rig: Rig
    github: GitHubDouble


def let_in(rig: Rig, github: GitHubDouble) -> None:
    """Put the App's key where the master reads it."""
    give_secret(rig)
    key = rig.site.basedir / "secrets" / "github-app-key"
    key.touch(mode=0o600)
    key.write_text(github.app_key)


def access(github: GitHubDouble) -> Payload:
    """Settings with which the double is GitHub."""
    names = {"repository": "acme/sample", "formerly": ["sample/sample"]}
    return {**names, "access": "app", "app_id": github.app_id, "api": github.url, "approve_label": "ci-ok"}


@pytest.fixture(scope="module")
def asking(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    github = GitHubDouble(tmp_path_factory.mktemp("asked"))
    github.start()
    made = Rig(tmp_path_factory.mktemp("asking") / "rig", template, tables(**access(github)))
    let_in(made, github)
    try:
        made.start_master()
        yield Asking(made, github)
    finally:
        made.stop()
        github.stop()


def test_a_pull_requests_files_are_asked_for_page_by_page(asking: Asking) -> None:
    rig, github = asking.rig, asking.github
    payload, pushed = pull_request(rig, 40)
    names = [f"src/file-{index:04}.cc" for index in range(250)]
    github.pull(40, pushed.head, files=names)
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    assert json.loads(rig.run(pushed)["changed_files"]) == names
    assert len(github.requests("GET", "/pulls/40/files")) == 3
    payload, pushed = pull_request(rig, 41)
    github.pull(41, pushed.head, files=[f"{index}" for index in range(3000)])
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    assert json.loads(rig.run(pushed)["changed_files"]) is None, "GitHub lists no more than 3000, and does not say so"


def test_an_event_that_github_has_moved_on_from_makes_no_run(asking: Asking) -> None:
    """No delivery told of the newer commit so far: GitHub is asked."""
    rig, github = asking.rig, asking.github
    older, first = pull_request(rig, 50)
    _, second = pull_request(rig, 50, again=True)
    github.pull(50, second.head, updated_at=LATER)
    assert acted_upon(rig, Sender(rig).send("pull_request", older)) == (
        "ignored",
        f"the pull request has moved on to {second.head[:12]} since",
    )
    assert not rig.runs(first)
    # an answer that is older than the event is one that has not caught up
    github.pull(50, second.head, updated_at="2020-01-01T00:00:00Z")
    assert acted_upon(rig, Sender(rig).send("pull_request", older))[0] == "done"
    assert json.loads(rig.run(first)["changed_files"]) is None


def test_what_waits_for_github_holds_up_nothing_else(asking: Asking) -> None:
    rig, github = asking.rig, asking.github
    proposed, pull = pull_request(rig, 60)
    github.pull(60, pull.head, files=["a.cc"])
    github.fail("error", "GET .*/pulls/", count=0, status=502)
    waiting = Sender(rig).send("pull_request", proposed)
    query = "select 1 from deliveries where delivery = ? and state = 'new' and failures > 0"
    rig.wait(lambda: rig.rows(query, waiting), "the delivery was put off")
    payload, pushed = a_push(rig)
    acted_upon(rig, Sender(rig).send("push", payload))
    assert rig.run(pushed)
    assert not rig.runs(pull)
    github.mend()
    assert acted_upon(rig, waiting)[0] == "done"
    assert json.loads(rig.run(pull)["changed_files"]) == ["a.cc"]


def test_who_may_order_is_asked_of_github(asking: Asking) -> None:
    rig, github = asking.rig, asking.github
    github.person("maintainer", "write")
    payload, pushed = pull_request(rig, 70, association="NONE")
    github.pull(70, pushed.head)
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    assert rig.run(pushed)["held"]
    asked = len(github.requests("GET", "/pulls/70"))
    state, outcome = acted_upon(rig, Sender(rig).send("issue_comment", comment(payload, "/ci ok", by="passer-by")))
    assert (state, "passer-by may not" in outcome) == ("refused", True), outcome
    assert len(github.requests("GET", "/pulls/70")) == asked, "what a stranger says costs no question about the commit"
    assert rig.run(pushed)["held"]
    exactly = f"/ci ok {pushed.head[:12]}"
    state, outcome = acted_upon(rig, Sender(rig).send("issue_comment", comment(payload, exactly)))
    assert (state, "approved by maintainer" in outcome) == ("done", True), outcome
    assert not rig.run(pushed)["held"]


def test_an_order_that_is_sent_again_under_another_number_counts_once(asking: Asking) -> None:
    rig, github = asking.rig, asking.github
    github.person("maintainer", "write")
    payload, pushed = pull_request(rig, 75, association="NONE")
    github.pull(75, pushed.head)
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    late = acted_upon(rig, Sender(rig).send("issue_comment", comment(payload, "/ci cancel", at="2020-01-01T00:00:00Z")))
    assert (late[0], "was made after /ci cancel was written" in late[1]) == ("refused", True), late
    order = comment(payload, "/ci cancel", at="2096-01-01T00:00:00Z")
    number = Sender(rig).send("issue_comment", order)
    assert acted_upon(rig, number)[1].endswith("is cancelled")
    again = Sender(rig).send("issue_comment", order)
    assert again != number
    assert not rig.rows("select 1 from deliveries where delivery = ?", again)


def test_a_label_approves_the_commit_it_was_put_on(asking: Asking) -> None:
    rig, github = asking.rig, asking.github
    github.person("maintainer", "admin")
    payload, pushed = pull_request(rig, 80, association="NONE")
    github.pull(80, pushed.head)
    acted_upon(rig, Sender(rig).send("pull_request", payload))
    far = {"at": "2096-01-01T00:00:00Z", "sender": {"login": "maintainer"}}
    for label, held in (("bug", True), ("ci-ok", False)):
        labeled = changed(payload, "labeled", far["at"], label={"name": label}, sender=far["sender"])
        acted_upon(rig, Sender(rig).send("pull_request", labeled))
        assert bool(rig.run(pushed)["held"]) is held


# -- webhook and poller together


def test_webhook_and_poller_tell_the_same_event(make_rig: MakeRig, github: GitHubDouble) -> None:
    rig = make_rig({**tables(**access(github)), "project": {"poll_interval": 0.3}})
    let_in(rig, github)
    rig.start([])
    github.fail("error", "GET .*/pulls/", count=0, status=502)  # until GitHub knows the pull request, too
    proposed, pull = pull_request(rig, 7)
    base = proposed["pull_request"]["base"]["sha"]
    github.pull(7, pull.head, author="sample", association="MEMBER", fork=False, files=["a.cc"], base_sha=base)
    github.mend()
    run = rig.run(pull)
    assert (run["base"], run["held"], json.loads(run["changed_files"])) == (base, "", ["a.cc"])
    assert run["author"] == "sample"
    acted_upon(rig, Sender(rig).send("pull_request", proposed))
    payload, pushed = a_push(rig)
    acted_upon(rig, Sender(rig).send("push", payload))
    rig.wait(lambda: rig.rows("select 1 from polled_refs where head = ?", pushed.head), "the poller saw it, too")
    rig.wait(lambda: not rig.rows("select 1 from inbox where state = 'new'"), "the inbox is read")
    told = {row["source"] for row in rig.rows("select source from inbox")}
    assert told == {"poller", "github"}
    assert (len(rig.runs(pull)), len(rig.runs(pushed))) == (1, 1)
    assert len(rig.runs()) == 2


def test_a_webhook_vouches_for_the_run_that_the_poller_had_to_hold(make_rig: MakeRig) -> None:
    rig = make_rig({**tables(), "project": {"poll_interval": 0.3}})
    give_secret(rig)
    rig.start([])
    for number, association, held in ((7, "MEMBER", False), (8, "NONE", True)):
        payload, pushed = pull_request(rig, number, association=association)
        assert rig.run(pushed)["held"]
        assert acted_upon(rig, Sender(rig).send("pull_request", payload))[0] == "done"
        assert bool(rig.run(pushed)["held"]) is held


def test_settings_that_are_read_again_open_the_webhook(make_rig: MakeRig) -> None:
    rig = make_rig({**tables(), "github": {"repository": "other/name", "webhook": False}})
    give_secret(rig)
    rig.start_master()
    body = json.dumps({"zen": "Design for failure."}).encode()
    assert not Sender(rig).post("ping", body, signed(body)).is_success
    rig.configure(tables())
    rig.reload()
    assert Sender(rig).post("ping", body, signed(body)).is_success
    payload, pushed = a_push(rig)
    acted_upon(rig, Sender(rig).send("push", payload))
    assert rig.run(pushed)
