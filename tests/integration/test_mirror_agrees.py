"""The mirror says what the master says: of every way in which a stage can end, with a real master in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from github_double import GitHubDouble
from pipelines import commands, hold, pipeline
from rig import Rig

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "ci" / "mirror.py"
TOKEN = "mirror-token"


class Mirrors:
    """The workflow's jobs, each a process that may read statuses and nothing else."""

    def __init__(self, github: GitHubDouble) -> None:
        self.github = github
        self.jobs: dict[str, subprocess.Popen[str]] = {}
        github.personal_token(TOKEN, {"statuses": "read"})

    def start(self, name: str, sha: str, stage: str, seconds: float = 300) -> None:
        told = {"PATH": os.environ["PATH"], "GITHUB_API_URL": self.github.url, "GITHUB_REPOSITORY": "acme/sample"}
        told |= {"GITHUB_TOKEN": TOKEN, "MIRROR_CONTEXT": f"mlc-ci/{stage}", "MIRROR_SHA": sha}
        told |= {"MIRROR_TIMEOUT_MINUTES": str(seconds / 60), "MIRROR_PAUSE_SECONDS": "0.3"}
        command = [sys.executable, "-I", str(SCRIPT)]
        self.jobs[name] = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True)

    def ended(self, name: str) -> tuple[int, str]:
        """The exit code, and the last line."""
        out, _ = self.jobs[name].communicate(timeout=120)
        return self.jobs[name].returncode, out.splitlines()[-1]


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubDouble]:
    double = GitHubDouble(tmp_path_factory.mktemp("github"))
    double.start()
    yield double
    double.stop()


@pytest.fixture(scope="module")
def rig(github: GitHubDouble, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    tables = pipeline()
    lenient = commands("lenient", continue_on_error=True) | {"commands": ["false"]}
    tables["stages"] = {"lenient": lenient, **tables["stages"]}
    access = {"repository": "acme/sample", "access": "app", "app_id": github.app_id, "api": github.url}
    tables["github"] = {**access, "webhook": False, "vouched": []}
    rig = Rig(tmp_path_factory.mktemp("mirror") / "rig", template, tables)
    key = rig.site.basedir / "secrets" / "github-app-key"
    key.touch(mode=0o600)
    key.write_text(github.app_key)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@pytest.fixture
def mirrors(github: GitHubDouble) -> Iterator[Mirrors]:
    mirrors = Mirrors(github)
    yield mirrors
    for job in mirrors.jobs.values():
        job.kill()
        job.communicate()


def test_every_end_of_a_stage_is_mirrored(rig: Rig, mirrors: Mirrors) -> None:
    pushed = rig.push({"ci/build-a.sh": "exit 1", "ci/build-b.sh": hold(rig, "never")})
    for stage in ("test", "build-a", "build-b", "release", "lenient", "summary"):
        mirrors.start(stage, pushed.head, stage)
    mirrors.start("no such stage", pushed.head, "docker")
    run = rig.run(pushed)
    rig.wait_for_state(run["id"], "build-b", "running")
    rig.wait_for_state(run["id"], "build-a", "failure")
    page = f"{rig.site.url}#/pipelines/{run['id']}"
    assert mirrors.ended("test")[0] == 0
    code, said = mirrors.ended("lenient")
    assert (code, "warnings" in said or "failed" in said) == (0, True), said
    code, said = mirrors.ended("build-a")
    assert (code, said.startswith("::error::mlc-ci/build-a: failure: ")) == (1, True), said
    assert page in said
    assert mirrors.jobs["build-b"].poll() is None, "it has not ended on the master"
    mirrors.start("too slow", pushed.head, "build-b", seconds=1)
    code, said = mirrors.ended("too slow")
    assert (code, "has not ended within" in said, "running" in said) == (2, True, True), said
    rig.order(f"runs/{run['id']}/cancel")
    rig.run_ended(run["id"])
    code, said = mirrors.ended("build-b")
    assert (code, "error: " in said, "cancelled" in said) == (1, True, True), said
    code, said = mirrors.ended("release")
    assert (code, "skipped" in said) == (0, True), said
    code, said = mirrors.ended("summary")
    assert code == 1, said
    code, said = mirrors.ended("no such stage")
    assert (code, "has no mlc-ci/docker" in said) == (2, True), said


def test_a_superseded_and_a_held_commit_are_mirrored(rig: Rig, github: GitHubDouble, mirrors: Mirrors) -> None:
    older = rig.pull_request(7)
    mirrors.start("silent", "0" * 40, "test", seconds=1)
    rig.run(older)
    rig.wait(lambda: "mlc-ci/test" in github.statuses(older.head), "the older commit's statuses")
    mirrors.start("held", older.head, "test", seconds=1)
    code, said = mirrors.ended("held")
    assert (code, "waits for a maintainer to approve it" in said) == (2, True), said
    mirrors.start("older", older.head, "test")
    rig.run(rig.pull_request(7, {"more": "x"}, again=True))
    code, said = mirrors.ended("older")
    assert (code, "superseded" in said) == (1, True), said
    code, said = mirrors.ended("silent")
    assert (code, "the master has not reported" in said) == (2, True), said
