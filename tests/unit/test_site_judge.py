"""``ci/up --once`` says no when something is not as it should be: each defect by its own words."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest

from master.releases import NOTES, SUMS
from master.settings import Settings, load
from master.site import judge
from workers.wheel.beside import manifest_name

QUICKSTART = Path(__file__).resolve().parents[2] / "ci" / "quickstart.toml"
_STATES = {
    "push": {"release": "skipped"},
    "pull_request": {"docker": "skipped", "release": "skipped"},
    "tag": {},
}


def run(event: str) -> dict[str, Any]:
    worker = "local-untrusted" if event == "pull_request" else "local-trusted"
    names = ("test", "docker", "build-linux", "build-windows", "release", "summary")
    stages = [
        {"name": n, "variant": "", "state": _STATES[event].get(n, "success"), "reason": "because", "worker": worker}
        for n in names
    ]
    return {"id": 1, "event": event, "result": "success", "result_reason": "", "stages": stages}


@pytest.fixture
def runs() -> list[dict[str, Any]]:
    return [run(event) for event in _STATES]


@pytest.fixture
def settings() -> Settings:
    return load(QUICKSTART, {})


@pytest.fixture
def basedir(tmp_path: Path) -> Path:
    folder = tmp_path / "releases" / "v0.2.0"
    folder.mkdir(parents=True)
    release(folder, "sample-0.2.0-py3-none-any.whl", b"a wheel")
    return tmp_path


def release(folder: Path, name: str, content: bytes, command: str = "python3 -m pip install --no-index") -> Path:
    """A wheel in the release folder, with all that belongs to it."""
    wheel = folder / name
    files = {wheel: content, folder / manifest_name(name): b"{}"}
    with (folder / SUMS).open("a") as sums, (folder / NOTES).open("a") as notes:
        for file, data in files.items():
            file.write_bytes(data)
            sums.write(f"{hashlib.sha256(data).hexdigest()}  {file.name}\n")
        notes.write(f"```sh\n{command} ./{name}\n```\n")
    return wheel


def problems(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> list[str]:
    return judge.problems(runs, basedir, settings, "v0.2.0", judge.Console(quiet=True))


def stage(runs: list[dict[str, Any]], event: str, name: str) -> dict[str, Any]:
    return next(s for r in runs if r["event"] == event for s in r["stages"] if s["name"] == name)


def test_all_as_it_should_be(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    assert problems(runs, basedir, settings) == []


def test_a_missing_worker_is_no_problem_but_a_missing_reason_is(
    runs: list[dict[str, Any]], basedir: Path, settings: Settings
) -> None:
    stage(runs, "tag", "docker")["state"] = "skipped"
    assert problems(runs, basedir, settings) == []
    stage(runs, "tag", "docker")["reason"] = ""
    assert "docker was skipped without a reason" in problems(runs, basedir, settings)[0]


@pytest.mark.parametrize(
    ("event", "name", "change", "said"),
    [
        ("push", "test", {"state": "failure"}, "test is failure"),
        ("push", "build-linux", {"state": "skipped"}, "build-linux is skipped"),
        ("push", "release", {"state": "success"}, "release is success"),
        ("pull_request", "docker", {"state": "success"}, "docker is success"),
        ("pull_request", "build-linux", {"worker": "local-trusted"}, "which is not untrusted"),
        ("push", "build-linux", {"worker": "local-untrusted"}, "which is not trusted"),
        ("tag", "release", {"state": "blocked"}, "release is blocked"),
        ("tag", "summary", {"state": "failure"}, "summary is failure"),
        ("tag", "docker", {"name": "dokcer"}, "there is no stage docker"),
    ],
)
def test_a_stage_that_is_not_as_it_should_be(
    runs: list[dict[str, Any]], basedir: Path, settings: Settings, event: str, name: str, change: Any, said: str
) -> None:
    stage(runs, event, name).update(change)
    assert any(said in problem for problem in problems(runs, basedir, settings))


def test_a_run_too_few_or_too_many(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    assert "tag: 0 runs" in problems(runs[:2], basedir, settings)[0]
    assert "tag: 2 runs" in problems([*runs, copy.deepcopy(runs[2])], basedir, settings)[0]


def test_a_run_that_ended_badly(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    runs[0].update(result="failure", result_reason="a stage failed")
    assert "ended as failure: a stage failed" in problems(runs, basedir, settings)[0]


def test_a_release_that_is_not_whole(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    folder = basedir / "releases" / "v0.2.0"
    (folder / "sample-0.2.0-py3-none-any.whl").write_bytes(b"another wheel")
    assert f"{SUMS} does not fit" in problems(runs, basedir, settings)[0]
    (folder / "sample-0.2.0-py3-none-any.whl").write_bytes(b"a wheel")
    (folder / "sample-0.2.0-py3-none-any.manifest.json").write_bytes(b"another manifest")
    assert f"{SUMS} does not fit sample-0.2.0-py3-none-any.manifest" in problems(runs, basedir, settings)[0]
    (folder / "sample-0.2.0-py3-none-any.manifest.json").unlink()
    assert "has no sample-0.2.0-py3-none-any.manifest.json" in problems(runs, basedir, settings)[0]
    (folder / NOTES).unlink()
    assert f"the release has no {NOTES}" in problems(runs, basedir, settings)[0]
    (folder / "sample-0.2.0-py3-none-any.whl").unlink()
    assert "no wheel was released" in problems(runs, basedir, settings)[0]


def test_a_wheel_that_does_not_install(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    folder = basedir / "releases" / "v0.2.0"
    release(folder, "sample-0.2.0-py3-none-linux_x86_64.whl", b"no zip")
    assert "could not be used" in problems(runs, basedir, settings)[0]


def test_notes_that_do_not_install_their_wheel(runs: list[dict[str, Any]], basedir: Path, settings: Settings) -> None:
    folder = basedir / "releases" / "v0.2.0"
    release(folder, "sample-0.2.0-py3-none-linux_x86_64.whl", b"no zip", "python3 -m pip download")
    assert "have no command that installs sample-0.2.0" in problems(runs, basedir, settings)[0]
