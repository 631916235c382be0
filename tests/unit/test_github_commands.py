"""What a comment on a pull request asks for, who may, and which commit an approval means."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from graphs import pipeline, stage
from stored import A, B, Pool, pull_request
from test_approvals import Database, held, journal
from twisted.internet import defer
from twisted.internet.task import Clock

from master.backlog import Backlog
from master.database import store
from master.github.commands import Approve, Cancel, Command, NotUnderstood, Retry, parse, perform
from master.pipeline import State
from master.repetition import Refused
from master.run_model import Create, Slot

AT = 100.0  #: when somebody comments; the runs of these tests were made at 2.0


@pytest.fixture
def scheduler(database: Callable[..., Any]) -> Backlog:
    """The real wishes, on a real database; no run is carried forward."""
    made = Backlog()
    clock = Clock()
    clock.advance(50.0)
    made.master = SimpleNamespace(db=SimpleNamespace(pool=Pool(database)), reactor=clock)
    made.reconciler = SimpleNamespace(pipeline=pipeline(stage("test"), stage("build", "test")))  # type: ignore[assignment]
    return made


def told(command: Command, scheduler: Backlog, *, permission: str = "write", head: str = "") -> str:
    """The outcome of doing it, or why it was refused."""
    found: list[Any] = []
    doing = defer.ensureDeferred(perform(command, scheduler, permission=permission, head=head))
    doing.addCallbacks(found.append, lambda why: found.append(f"refused: {why.trap(Refused) and why.value}"))
    return str(found[0])


def ok(sha: str = "", at: float = AT, by: str = "ann") -> Approve:
    return Approve(pull=7, by=by, at=at, sha=sha)


def cancel(at: float = AT, by: str = "ann") -> Cancel:
    return Cancel(pull=7, by=by, at=at)


def retry(stage: str = "", at: float = AT) -> Retry:
    return Retry(pull=7, by="ann", at=at, stage=stage)


# -- the text


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/ci ok", ok()),
        ("/ci ok 1a2b3c4", ok("1a2b3c4")),
        (f"/ci ok {A.upper()}", ok(A)),
        ("/ci  ok \t 1A2B3C4  \r\nthank you", ok("1a2b3c4")),
        ("/ci retry", Retry(pull=7, by="ann", at=AT)),
        ("/ci retry build-linux", Retry(pull=7, by="ann", at=AT, stage="build-linux")),
        ("/ci cancel\n/ci ok", Cancel(pull=7, by="ann", at=AT)),
    ],
)
def test_the_first_line_is_a_command(text: str, command: Command) -> None:
    assert parse(text, pull=7, by="ann", at=AT) == command


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "looks good", "> /ci ok", " > /ci ok", "please /ci ok", "thanks\n/ci ok", "/cinema", "\n/ci ok"),
        *("ci ok", " /ci ok", "/CI ok", "`/ci ok`", "    /ci ok", "/ci\u00a0ok", "/ci\u2028ok"),
    ],
)
def test_any_other_comment_is_nothing(text: str) -> None:
    assert parse(text, pull=7, by="ann", at=AT) is None


@pytest.mark.parametrize(
    "text",
    [
        *("/ci", "/ci okay", "/ci ok 1a2b3c", "/ci ok 1a2b3cg", "/ci ok HEAD", "/ci ok main", f"/ci ok {'a' * 65}"),
        *("/ci ok 1a2b3c4 and more", "/ci ok ١٢٣٤٥٦٧", "/ci retry a b", "/ci retry ../x", "/ci retry $(touch x)"),
        *("/ci retry --all", f"/ci retry {'s' * 65}", "/ci cancel 3", "/ci rm -rf /", "/ci OK"),
    ],
)
def test_what_begins_as_a_command_and_is_none_is_told_what_there_is(text: str) -> None:
    refused = parse(text, pull=7, by="ann", at=AT)
    assert isinstance(refused, NotUnderstood)
    for known in ("/ci ok SHA", "/ci retry STAGE", "/ci cancel"):
        assert known in refused.text
    assert len(refused.text) < 250


# -- who may


@pytest.mark.parametrize("permission", ["admin", "maintain", "write"])
def test_those_who_may_write_give_orders(database: Database, scheduler: Backlog, permission: str) -> None:
    run_id = held(database, pull_request(A))
    assert told(ok(A), scheduler, permission=permission) == f"run {run_id} for commit {A[:12]} is approved by ann"
    assert database(store.run, run_id).approved == "ann"


@pytest.mark.parametrize("permission", ["triage", "read", "none", "", "Write", "writer", "push"])
@pytest.mark.parametrize("command", [ok(), ok(A), cancel(), retry()])
def test_all_others_are_refused_and_the_journal_says_so_once(
    database: Database, scheduler: Backlog, permission: str, command: Command
) -> None:
    run_id = held(database, pull_request(A))
    for _ in range(2):
        said = told(command, scheduler, permission=permission, head=A)
        assert said.startswith("refused: ann may not give orders here")
    run = database(store.run, run_id)
    assert (bool(run.held), run.approved, run.cancelled) == (True, "", "")
    [note] = journal(database, run_id)
    assert re.match("/ci (ok|cancel|retry) by ann refused: ann may not", note)
    told(retry("x"), scheduler, permission=permission)
    told(retry("y"), scheduler, permission=permission)
    assert len(journal(database, run_id)) <= 2, "whatever a stranger makes up"


def test_a_pull_request_without_runs_is_told(scheduler: Backlog) -> None:
    for permission in ("read", "write"):
        assert told(ok(A), scheduler, permission=permission).startswith("refused: ")
    assert told(ok(A), scheduler) == "refused: pull request 7 has no run"


# -- which commit


def test_a_bare_ok_means_the_commit_that_there_was_to_see(database: Database, scheduler: Backlog) -> None:
    run_id = held(database, pull_request(A))
    assert told(ok(), scheduler, head=A) == f"run {run_id} for commit {A[:12]} is approved by ann"


def test_a_bare_ok_means_nothing_that_came_while_it_was_written(database: Database, scheduler: Backlog) -> None:
    """Nor just before: nobody has looked at it then, and the clocks of GitHub and of the master are not the same."""
    run_id = held(database, pull_request(A))  # made at 2.0
    for at in (1.0, 2.0, 2.5, 12.0, 61.9):
        said = told(ok(at=at), scheduler, head=A)
        assert said.startswith(f"refused: run {run_id} came after the approval, or less than 60 s before it")
        assert said.endswith("Name it (/ci ok aaaaaaaaaaaa), or wait and approve again")
    assert database(store.run, run_id).held
    assert told(ok(at=62.0), scheduler, head=A).startswith(f"run {run_id} for")


def test_a_bare_ok_means_nothing_once_the_pull_request_has_moved_on(database: Database, scheduler: Backlog) -> None:
    run_id = held(database, pull_request(A))
    said = told(ok(), scheduler, head=B)
    assert said == f"refused: the pull request is at {B[:12]} by now, and run {run_id} is for {A[:12]}"
    assert journal(database, run_id) == [f"/ci ok by ann {said}"]
    assert told(ok(), scheduler, head="").startswith("refused: "), "nor when GitHub has not said where it is"
    assert database(store.run, run_id).held


def test_a_named_commit_is_approved_and_no_other(database: Database, scheduler: Backlog) -> None:
    first = held(database, pull_request(A))
    second = held(database, pull_request(B, A))
    assert told(ok(A[:7]), scheduler) == f"refused: run {first} was superseded by run {second}"
    assert told(ok("c" * 7), scheduler) == "refused: pull request 7 has no run of a commit ccccccc"
    assert database(store.run, second).held
    assert told(ok(B[:7], at=0.0), scheduler).startswith(f"run {second} for"), "whenever: it says which"
    assert database(store.run, first).held


def test_the_beginning_of_two_commits_approves_neither(database: Database, scheduler: Backlog) -> None:
    """Seven digits are quickly found again: a stranger can make such a pair."""
    one, other = "1a2b3c4" + "0" * 33, "1a2b3c4" + "f" * 33
    held(database, pull_request(one))
    newest = held(database, pull_request(other, one))
    said = told(ok("1a2b3c4"), scheduler)
    assert one in said
    assert other in said
    assert database(store.run, newest).held
    assert told(ok(other), scheduler).startswith(f"run {newest} for")


def test_the_commit_of_another_pull_request_is_not_meant(database: Database, scheduler: Backlog) -> None:
    other = held(database, pull_request(A, number=8))
    held(database, pull_request(B))
    assert told(ok(A), scheduler).startswith("refused: pull request 7 has no run of")
    assert database(store.run, other).held


def test_told_twice_it_is_approved_once(database: Database, scheduler: Backlog) -> None:
    run_id = held(database, pull_request(A))
    told(ok(A), scheduler)
    assert told(ok(A), scheduler) == f"refused: run {run_id} was approved by ann before"
    assert journal(database, run_id) == [
        f"approved by ann: commit {A}",
        f"/ci ok by ann refused: run {run_id} was approved by ann before",
    ]


# -- the others


def test_an_order_that_waited_out_an_outage_is_not_for_a_run_made_since(database: Database, scheduler: Backlog) -> None:
    held(database, pull_request(A))
    newest = held(database, pull_request(B, A))
    for command in (cancel(at=1.0), retry(at=1.0)):
        assert told(command, scheduler) == (
            f"refused: run {newest} was made after {command} was written: say it again if it is meant, too"
        )
    assert database(store.run, newest).cancelled == ""
    assert told(cancel(at=2.0), scheduler) == f"run {newest} is cancelled"


def test_cancel_ends_the_newest_run(database: Database, scheduler: Backlog) -> None:
    run_id = held(database, pull_request(A))
    assert told(cancel(), scheduler) == f"run {run_id} is cancelled"
    assert database(store.run, run_id).cancelled == "cancelled by ann"
    assert told(cancel(by="bob"), scheduler) == f"refused: run {run_id} was cancelled by ann before"
    database(store.end_run, run_id, result=State.CANCELLED, reason="", now=9.0)
    assert told(cancel(by="bob"), scheduler) == f"refused: run {run_id} has ended"
    assert told(ok(A), scheduler) == f"refused: run {run_id} was cancelled by ann"


def test_retry_runs_again_what_failed_and_releases_nothing_that_is_held(database: Database, scheduler: Backlog) -> None:
    run_id = held(database, pull_request(A))
    slots = [Slot("test", "", 1), Slot("build", "", 1)]
    database(store.add_attempts, run_id, [Create(slot=slot) for slot in slots], 3.0)
    assert told(retry(), scheduler).startswith("refused: nothing has failed so far")
    assert told(retry("test"), scheduler) == "refused: test has not ended yet"
    assert told(retry("tset"), scheduler).startswith("refused: there is no stage 'tset'")
    database(store.cancel_run, run_id, "cancelled by ann")
    for slot in slots:
        values = {"state": State.CANCELLED, "ended_at": 4.0}
        database(store.change, run_id, slot, was=[State.PENDING], values=values)
    database(store.end_run, run_id, result=State.CANCELLED, reason="", now=5.0)
    said = told(retry(), scheduler)
    assert said == f"run {run_id} runs again: build/default/2, test/default/2"
    run = database(store.run, run_id)
    assert (run.ended_at, run.cancelled, bool(run.held)) == (None, "", True)
