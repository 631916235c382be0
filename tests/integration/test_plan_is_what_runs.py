"""``mlc-ci plan`` and the run that really happened, event by event, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import commands, pipeline
from rig import MARKER, Pushed, Rig

from master.pipeline import EventKind
from master.plan import Plan, plan
from master.planned_event import planned_event
from master.settings import load

pytestmark = pytest.mark.xdist_group("plan")
_WHAT = {"success": "run", "skipped": "skip", "blocked": "blocked", "infrastructure": "fail"}

IMAGE = {"repository": "acme/sample", "login": {"user": "ci", "secret": "registry"}}
TABLES = pipeline(
    stages__docker={"needs": ["test"], "secrets": ["registry"], "image": IMAGE},
    stages__docs=commands("docs", paths=["docs/**"]),
    stages__lint=commands("lint", variants=["fast", "slow"], environment={"COLOUR": "never"}),
    stages__after_docker=commands("after_docker", needs=["docker"]),
    stages__mac=commands("mac", requires={"os": "linux", "tools": ["macos"]}, no_worker="fail"),
    stages__threads=commands("threads", when=["push", "pull_request"])
    | {"commands": ["echo threads $NUM_THREADS colour ${COLOUR:-none}"]},
)


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Rig(tmp_path_factory.mktemp("plan") / "rig", template, TABLES)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def planned(rig: Rig, kind: EventKind, **more: Any) -> Plan:
    settings = load(rig.site.basedir / "settings.toml", {MARKER: "ours"})
    return plan(settings, planned_event(settings, kind, **more))


def really(rig: Rig, run_id: int) -> dict[tuple[str, str], tuple[str, str]]:
    rows = rig.attempts(run_id)
    return {(row["stage"], row["variant"]): (_WHAT[row["state"]], row["reason"]) for row in rows}


def agrees(rig: Rig, asked: Plan, run: Mapping[str, Any]) -> None:
    told = {(s.stage, s.variant): (s.what, s.reason) for s in asked.stages}
    assert told == really(rig, run["id"])
    assert (asked.trusted, asked.publish) == (bool(run["trusted"]), bool(run["publish"]))
    for stage in asked.stages:
        if stage.workers:
            assert rig.attempt(run["id"], stage.stage)["worker"] in stage.workers


def said_by(rig: Rig, run_id: int, stage: str) -> str:
    return rig.step_log(rig.attempt(run_id, stage)["build_id"], step="echo threads $NUM_THREADS colour ${COLOUR:-none}")


def payload_file(tmp_path: Path, payload: Any) -> Path:
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(payload))
    return file


def test_a_push(rig: Rig) -> None:
    asked = planned(rig, EventKind.PUSH, changed=["src/a.cc"])
    run = rig.ended(rig.push(files={"src/a.cc": "int a;"}))
    agrees(rig, asked, run)
    assert {s.what for s in asked.stages} == {"run", "skip", "blocked", "fail"}, "the test has a case of each"


def test_a_push_that_changes_the_documents(rig: Rig) -> None:
    asked = planned(rig, EventKind.PUSH, changed=["docs/a.md"])
    assert next(s for s in asked.stages if s.stage == "docs").what == "run"
    agrees(rig, asked, rig.ended(rig.push(files={"docs/a.md": "text"})))


def test_a_pull_request_as_github_tells_of_it(rig: Rig, tmp_path: Path) -> None:
    import rig as module

    done = module.repository.pull_request(rig.repositories, 41, files={"src/b.cc": "int b;"})
    file = payload_file(tmp_path, done["payload"])
    asked = planned(rig, EventKind.PULL_REQUEST, payload=file, changed=["src/b.cc"])
    run = rig.ended(Pushed(kind="pull_request", ref=done["ref"], head=done["head"]))
    agrees(rig, asked, run)
    assert (asked.event.head, asked.event.base) == (run["head"], run["base"])


def test_a_tag(rig: Rig) -> None:
    asked = planned(rig, EventKind.TAG, ref="v1.0")
    agrees(rig, asked, rig.ended(rig.tag("v1.0")))


def test_a_manual_run_of_some_stages(rig: Rig) -> None:
    asked = planned(rig, EventKind.MANUAL, stages=["build-a"])
    assert rig.force(ref="main", stages=["build-a"]).json()["result"]
    (run,) = rig.rows("select * from runs where kind = 'manual' order by id desc limit 1")
    agrees(rig, asked, rig.run_ended(run["id"]))


def test_a_build_sees_the_planned_environment(rig: Rig) -> None:
    asked = planned(rig, EventKind.PUSH)
    (stage,) = (s for s in asked.stages if s.stage == "threads")
    run = rig.ended(rig.push())
    assert f"threads {stage.environment['NUM_THREADS']} colour none" in said_by(rig, run["id"], "threads")
    assert stage.environment["NUM_THREADS"] == "4"
    pulled = rig.ended(rig.pull_request(42))
    assert "threads 2 colour none" in said_by(rig, pulled["id"], "threads")
