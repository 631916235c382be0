"""Artifacts in a whole site: from a build's files to what the next stage fetches, whoever is killed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from artifact_process import Proxy, proxy
from pipelines import commands, pipeline
from rig import MakeRig, Rig
from sites import free_port

from master.artifacts.tokens import KEY

pytestmark = pytest.mark.slow

BIG = "head -c 40000000 /dev/urandom > build_a.bin"
WHEEL = "build_a-1.0-py3-none-any.whl"


def with_check(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """The usual pipeline, and a stage that uses what build-a has left."""
    downloads = [{"stage": "build-a", "globs": ["*.whl"], "into": "got"}]
    check = commands("check", needs=["build-a"], downloads=downloads)
    check["commands"] = [f"sha256sum got/{WHEEL} > {{rig}}/got", *check["commands"]]
    return pipeline(stages__check=check, **changes)


def test_a_stage_fetches_what_an_earlier_one_has_left(make_rig: MakeRig) -> None:
    rig = make_rig(with_check())
    rig.start(["reliable"])
    run = rig.ended(rig.push())
    assert run["result"] == "success", rig.state()
    (row,) = rig.rows("select * from artifacts where name = ?", WHEEL)
    assert (rig.folder / "got").read_text().split()[0] == row["sha256"]
    assert [one["name"] for one in listed(rig, run["id"])] == [WHEEL, WHEEL.replace("_a", "_b")]
    _the_token_is_nowhere(rig, rig.attempt(run["id"], "build-a")["build_id"])


def listed(rig: Rig, run: int) -> list[dict[str, Any]]:
    """What the artifact process tells readers of a run, by name."""
    answer = httpx.get(f"http://127.0.0.1:{rig.artifacts_port}/runs/{run}/artifacts", trust_env=False)
    found: list[dict[str, Any]] = answer.json()["artifacts"]
    return sorted(found, key=lambda one: str(one["name"]))


def _the_token_is_nowhere(rig: Rig, build: int) -> None:
    """A token begins as every JSON Web Token does; the key that signs them is in its own file alone."""
    key = (rig.site.basedir / "secrets" / KEY).read_text().strip()
    log = rig.step_log(build, step="artifacts")
    assert "mlc-ci-worker upload" in log  # it is the log indeed
    assert "eyJ" not in log
    assert key not in log
    found = {needle: _holding(rig.folder / "site", needle) for needle in (b"eyJhbGci", key.encode(), b"settings")}
    assert found[b"eyJhbGci"] == set()
    assert found[key.encode()] == {f"master/secrets/{KEY}"}
    assert found[b"settings"]  # a search that finds nothing at all would prove nothing


def _holding(folder: Path, needle: bytes) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git/" not in str(path))
    return {path.relative_to(folder).as_posix() for path in files if needle in path.read_bytes()}


@pytest.fixture
def slow(make_rig: MakeRig) -> Iterator[tuple[Rig, Proxy]]:
    """A site whose workers reach the artifact process through a proxy that stops in the middle of a large file."""
    port = free_port()
    with proxy(port, held=5_000_000) as between:
        tables = pipeline(artifacts={"url": between.url, "port": port})
        build = tables["stages"]["build-a"]
        build["commands"].append(BIG)
        build["artifacts"].append("*.bin")
        rig = make_rig(tables)
        rig.artifacts_port = port
        rig.start(["reliable"])
        yield rig, between


def let_go(between: Proxy) -> None:
    between.held = None
    between.go.set()


def test_sigkill_of_the_artifact_process_in_a_build(slow: tuple[Rig, Proxy]) -> None:
    rig, between = slow
    pushed = rig.push()
    rig.wait(between.waiting.is_set, "an upload is under way")
    rig.kill("artifacts")
    let_go(between)
    rig.site.start_artifacts()
    run = rig.ended(pushed)
    assert run["result"] == "success", rig.state()
    (attempt,) = rig.attempts(run["id"], "build-a")
    assert len(rig.builds(attempt["request_id"])) == 1  # the build never knew
    assert "going on at byte" in rig.step_log(attempt["build_id"], step="artifacts")
    _everything_listed_is_right(rig, attempt["build_id"])


@pytest.mark.parametrize("who", ["reliable", "master"])
def test_sigkill_of_worker_or_master_in_an_upload(slow: tuple[Rig, Proxy], who: str) -> None:
    rig, between = slow
    pushed = rig.push()
    rig.wait(between.waiting.is_set, "an upload is under way")
    (attempt,) = rig.attempts(rig.run(pushed)["id"], "build-a")
    rig.kill(who)
    one_is_whole_and_one_half_there = listed(rig, attempt["run_id"])
    assert "build-a" not in {one["stage"] for one in one_is_whole_and_one_half_there}
    let_go(between)
    if who == "master":
        rig.start_master()
    else:
        rig.site.start_worker(who)
    run = rig.ended(pushed)
    assert run["result"] == "success", rig.state()
    (attempt,) = rig.attempts(run["id"], "build-a")
    lost, good = rig.builds(attempt["request_id"])
    assert attempt["build_id"] == good["id"]
    _everything_listed_is_right(rig, good["id"])
    uploaded = rig.rows("select name from uploads where build_id = ?", lost["id"])
    assert [row["name"] for row in uploaded] == [WHEEL]  # whole, in the store, and listed nowhere
    assert rig.rows("select 1 from artifacts where path like ?", f"%/{lost['id']}/%") == []


def _everything_listed_is_right(rig: Rig, build: int) -> None:
    query = "select a.*, s.run_id from artifacts a join stage_attempts s on s.id = a.attempt_id where s.build_id = ?"
    rows = rig.rows(query, build)
    assert sorted(row["name"] for row in rows) == sorted(["build_a.bin", WHEEL])
    told = [one for one in listed(rig, rows[0]["run_id"]) if one["stage"] == "build-a"]
    assert [(one["name"], one["sha256"]) for one in told] == sorted((row["name"], row["sha256"]) for row in rows)
    for row in rows:
        content = (rig.site.basedir / "artifacts" / row["path"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (row["sha256"], row["size"])
