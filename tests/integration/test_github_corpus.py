"""GitHub's own examples of every webhook, through a running master: each ends as the reviewed table says."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from deliver import Sender, give_secret, signed, signed_by_sha1_alone
from github_corpus import REPOSITORIES, RUNS, Example, examples
from pipelines import commands, pipeline
from rig import Rig

from master.plan import plan
from master.planned_event import planned_event
from master.settings import load

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("github_corpus")]

TABLES = {
    **pipeline(),
    "project": {"default_branch": "master", "tag_pattern": "simple-*", "poll_interval": 0},
    "github": {"repository": REPOSITORIES[0], "formerly": REPOSITORIES[1:], "approve_label": "bug", "statuses": False},
    "scheduling": {"no_worker": "skip"},
    "stages": {
        "build": commands("build", requires={"os": "linux", "tools": ["nobody-has-it"]}),
        # the pull request's run stays until it is closed: the worker is configured, and never comes
        "review": commands("review", when=["pull_request"]),
        "summary": {"needs": ["build", "review"]},
    },
}


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("corpus") / "rig", template, TABLES)
    give_secret(made)
    try:
        made.start_master(wait=False)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def corpus() -> list[Example]:
    return examples()


@pytest.fixture(scope="module")
def numbers(rig: Rig, corpus: list[Example]) -> list[str]:
    """The whole corpus, signed and delivered; the deliveries' numbers."""
    sender = Sender(rig)
    sent = [sender.send(example.name, example.payload) for example in corpus]
    rig.wait(lambda: not rig.rows("select 1 from deliveries where state = 'new'"), "everything is acted upon")
    rig.wait(lambda: not rig.rows("select 1 from inbox where state = 'new'"), "every event became a run")
    return sent


def test_each_ends_as_the_table_says(rig: Rig, corpus: list[Example], numbers: list[str]) -> None:
    assert len(corpus) == 329
    rows = {row["delivery"]: row for row in rig.rows("select * from deliveries")}
    found = [(example.name, rows[number]["state"]) for example, number in zip(corpus, numbers, strict=True)]
    assert found == [(example.name, example.state) for example in corpus]
    for example, number in zip(corpus, numbers, strict=True):
        assert rows[number]["outcome"].startswith(example.outcome), (example.name, example.outcome)
        assert rows[number]["payload"] is None
    assert len(rows) == 329


def test_three_runs_come_of_it(rig: Rig, numbers: list[str]) -> None:
    assert numbers
    rig.wait(lambda: not rig.rows("select 1 from runs where ended_at is null"), "every run ended")
    found = {run["event_key"]: (run["result"], rig.states(run["id"])) for run in rig.runs()}
    assert found == RUNS
    assert len(found) == 3


def test_nothing_went_wrong(rig: Rig, numbers: list[str]) -> None:
    assert numbers
    assert "Traceback" not in rig.log()
    assert "Unhandled" not in rig.log()


def untouched(rig: Rig) -> tuple[int, int, int]:
    counts = [rig.rows(f"select count(*) n from {table}")[0]["n"] for table in ("deliveries", "inbox", "runs")]  # noqa: S608
    return counts[0], counts[1], counts[2]


@pytest.mark.parametrize("attack", ["unsigned", "signed by SHA-1 alone", "with another secret", "tampered with"])
def test_what_github_did_not_sign_leaves_nothing(
    attack: str, rig: Rig, corpus: list[Example], numbers: list[str]
) -> None:
    assert numbers
    before, sender = untouched(rig), Sender(rig)
    for example in corpus:
        body = json.dumps(example.payload).encode()
        match attack:
            case "unsigned":
                headers = {}
            case "signed by SHA-1 alone":
                headers = signed_by_sha1_alone(body)
            case "with another secret":
                headers = {**signed(body, "guessed"), **signed_by_sha1_alone(body)}
            case _:
                headers, body = signed(body), body.replace(b"{", b"{ ", 1)
        answer = sender.post(example.name, body, headers)
        assert answer.status_code == 400, answer.text
        assert "X-Hub-Signature-256" in answer.text
    assert untouched(rig) == before
    assert "Traceback" not in rig.log()


def test_what_is_delivered_again_changes_nothing(rig: Rig, corpus: list[Example], numbers: list[str]) -> None:
    before, sender = untouched(rig), Sender(rig)
    for example, number in zip(corpus, numbers, strict=True):
        assert sender.send(example.name, example.payload, delivery=number) == number
    assert untouched(rig) == before
    fresh = sender.send("push", next(e.payload for e in corpus if e.name == "push"), delivery=str(uuid.uuid4()))
    rig.wait(lambda: rig.rows("select 1 from deliveries where delivery = ? and state = 'done'", fresh), "acted upon")
    rig.wait(lambda: not rig.rows("select 1 from inbox where state = 'new'"), "read")
    assert untouched(rig) == (before[0] + 1, before[1] + 1, before[2]), "another telling of an event that has its run"
    assert "Traceback" not in rig.log()


def test_plan_takes_every_payload(rig: Rig, corpus: list[Example], tmp_path: Path) -> None:
    """Without a master it cannot know what came before; what asks for a run does so here as there."""
    settings = load(rig.site.basedir / "settings.toml", {})
    file, planned = tmp_path / "payload.json", []
    for example in corpus:
        file.write_text(json.dumps(example.payload))
        planned.append(plan(settings, planned_event(settings, example.name, payload=file)))
    runs = {f"{p.event.kind}:{p.event.ref}@{p.event.head}" for p in planned if p.event and not p.ignored}
    assert runs == set(RUNS)
    for example, found in zip(corpus, planned, strict=True):
        if example.state == "ignored" and not example.outcome.startswith("came late"):
            assert found.ignored.startswith(example.outcome), example
