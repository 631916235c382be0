"""A push, a pull request and a tag, from the delivery to what GitHub shows; every word of it as GitHub describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deliver import Sender, give_secret
from github_double import GitHubDouble
from pipelines import WELL, pipeline
from prism import Prism
from rig import Pushed, Rig, repository

from master.settings_github import APP_KEY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prism")]
STATES = {"success": "success", "skipped": "success"}  #: what becomes of a stage, as GitHub calls it
FILES = ["SHA256SUMS", "build_a-1.0-py3-none-any.whl", "build_b-1.0-py3-none-any.whl", "release.json"]


@pytest.fixture
def rig(github: GitHubDouble, prism: Prism, template: Path, tmp_path: Path) -> Iterator[Rig]:
    """Told of everything by GitHub, which it asks and tells through Prism."""
    github.forget("sample/sample")
    tables = pipeline(project={"poll_interval": 0})
    tables["stages"]["release"]["target"] = {"kind": "github", "manifests": False}
    tables["github"] = {"repository": "sample/sample", "access": "app", "app_id": github.app_id, "api": prism.url}
    made = Rig(tmp_path / "rig", template, tables)
    give_secret(made)
    key = made.site.basedir / "secrets" / APP_KEY
    key.touch(mode=0o600)
    key.write_text(github.app_key)
    try:
        made.site.start_artifacts(wait=False)
        made.start_master(wait=False)
        made.site.wait_for_artifacts()
        for name in made.site.local_workers():
            made.site.start_worker(name)
            made.wait_for_workers(name)
        yield made
    finally:
        made.stop()


def told(rig: Rig) -> bool:
    """All that was to be told to GitHub was told."""
    return bool(rig.rows("select 1 from outbox")) and not rig.rows("select 1 from outbox where version > sent")


def test_a_push_a_pull_request_and_a_tag(rig: Rig, github: GitHubDouble, prism: Prism) -> None:
    with prism.refuses():
        runs = {kind: rig.ended(event) for kind, event in deliver(rig, github).items()}
        rig.wait(lambda: told(rig), "GitHub was told everything")

    assert {kind: run["result"] for kind, run in runs.items()} == dict.fromkeys(runs, "success")
    for kind in ("pull_request", "tag"):  # the push is of the tag's commit, and the later run has the say
        expected = {f"mlc-ci/{stage}": STATES[state] for stage, state in WELL[kind].items()}
        found = github.statuses(runs[kind]["head"])
        assert {context: status["state"] for context, status in found.items()} == expected
        assert all(status["target_url"].startswith(rig.site.url) for status in found.values())
    (comment,) = github.comments(7)
    assert "build-a" in comment
    (release,) = github.releases()
    assert sorted(one["name"] for one in release["assets"]) == FILES
    assert (release["tag_name"], release["draft"], release["prerelease"]) == ("v1.0", False, False)
    assert "Traceback" not in rig.log()
    assert permissions(github) == {
        "POST statuses": {"statuses": "write"},
        "POST comments": {"pull_requests": "write"},
        "POST releases": {"contents": "write"},
        "POST assets": {"contents": "write"},
        "PATCH releases": {"contents": "write"},
    }


def deliver(rig: Rig, github: GitHubDouble) -> dict[str, Pushed]:
    """What happens on GitHub, which tells the master."""
    sender = Sender(rig)
    pull = repository.pull_request(rig.repositories, 7, association="MEMBER")
    author = pull["payload"]["pull_request"]["user"]["login"]
    github.pull(7, pull["head"], author=author, association="MEMBER", files=["src/one.py"])
    sender.send("pull_request", pull["payload"])
    push = repository.push(rig.repositories)
    sender.send("push", push["payload"])
    tag = repository.tag(rig.repositories, "v1.0")
    github.tag("v1.0", tag["commit"], annotated=tag["object"])
    pushed = Pushed(kind="push", ref=push["ref"], head=push["after"])
    rig.run(pushed)
    sender.send("push", tag["payload"])
    return {
        "pull_request": Pushed(kind="pull_request", ref=pull["ref"], head=pull["head"]),
        "push": pushed,
        "tag": Pushed(kind="tag", ref=tag["ref"], head=tag["commit"]),
    }


def permissions(github: GitHubDouble) -> dict[str, dict[str, str]]:
    """With which permissions each kind of thing was written, beside reading metadata (a comment: when it was made)."""
    found: dict[str, dict[str, Any]] = {}
    for one in github.requests():
        if one["method"] == "GET" or one["permissions"] is None:
            continue
        parts = one["path"].split("/")[4:]
        what = next(part for part in reversed(parts) if part in ("statuses", "comments", "assets", "releases"))
        name = f"{one['method']} {what}"
        if name != "PATCH comments":
            held = {key: level for key, level in one["permissions"].items() if key != "metadata"}
            assert found.setdefault(name, held) == held
    return found
