"""A release on GitHub: complete or not to be seen, completed after any interruption, and never in place of another."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from github_double import GRANTED, GitHubDouble

from master.github.access import Access, GitHubRefused, GitHubUnavailable
from master.github.releases import GitHubTarget
from master.releases import Asset, Release, ReleaseRefused, ReleaseStopped
from master.settings_github import APP_KEY, GitHubSettings

COMMIT, OTHER, OBJECT = "a" * 40, "b" * 40, "c" * 40
TEXTS = {"SHA256SUMS", "release.json"}
Publish = Callable[..., str]


@pytest.fixture
def access(github: GitHubDouble, tmp_path: Path) -> Access:
    (tmp_path / APP_KEY).write_text(github.app_key)
    (tmp_path / APP_KEY).chmod(0o600)
    github.tag("v1.0", COMMIT, annotated=OBJECT)
    settings = GitHubSettings(repository="acme/sample", access="app", app_id=github.app_id, api=github.url)
    made = Access(settings, tmp_path)
    made.token({"contents": "write"})  # not counted among the requests of a release
    return made


@pytest.fixture
def publish(access: Access) -> Publish:
    """Publishes as a master that has just begun; by itself it waits for nothing."""

    def published(release: Release, *, patience: float = 0, stop: threading.Event | None = None) -> str:
        return GitHubTarget(access, patience=patience).publish(release, stop or threading.Event())

    return published


def asset(folder: Path, name: str, content: bytes) -> Asset:
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Asset(name=name, artifact=name, source=folder / name, size=len(content), sha256=digest)


def a_release(folder: Path, tag: str = "v1.0", *, notes: str = "The notes.\n", **contents: bytes) -> Release:
    found = {"a-1.0+cu128-py3-none-any.whl": b"a wheel", "a-1.0.manifest.json": b"{}", **contents}
    assets = tuple(asset(folder, name, content) for name, content in found.items())
    return Release(tag=tag, commit=COMMIT, notes=notes, assets=assets)


def right(github: GitHubDouble, release: Release) -> dict[str, Any]:
    """There is this one release and nothing else, public and complete."""
    (found,) = github.releases()
    held = {one["name"]: (one["state"], one["size"], one["sha256"]) for one in found["assets"]}
    assert len(held) == len(found["assets"])
    assert {name: held[name] for name in held if name not in TEXTS} == {
        one.name: ("uploaded", one.size, one.sha256) for one in release.assets
    }
    assert set(held) >= TEXTS
    assert (found["draft"], found["tag_name"], found["name"]) == (False, release.tag, release.tag)
    assert found["body"] == release.notes
    return found


def written(github: GitHubDouble) -> list[str]:
    """What was asked of it that changes something, beside tokens."""
    asked = [one for one in github.requests() if one["method"] != "GET" and "/access_tokens" not in one["path"]]
    return [f"{one['method']} {one['path'].removeprefix('/repos/acme/sample')}" for one in asked]


def draft(github: GitHubDouble, release: Release, publish: Publish, after: str) -> int:
    """A publication that was interrupted at this request; its draft."""
    github.fail("error", after)
    with pytest.raises(GitHubUnavailable):
        publish(release)
    github.mend()
    return int(github.releases()[-1]["id"])


def test_a_release_is_a_draft_until_all_of_it_is_there(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    release = a_release(tmp_path)
    said = publish(release)
    found = right(github, release)
    assert said == "published 4 assets at https://github.com/acme/sample/releases/tag/v1.0"
    *before, last = written(github)
    assert last == f"PATCH /releases/{found['id']}"
    assert before == ["POST /releases", *[f"POST /releases/{found['id']}/assets"] * 4]
    assert all(one["permissions"] == {"metadata": "read", "contents": "write"} for one in github.requests()[2:])
    texts = {one["name"]: (github.folder / str(one["id"])).read_text() for one in found["assets"]}
    assert texts["SHA256SUMS"] == release.sums
    assert json.loads(texts["release.json"]) == json.loads(json.dumps(release.manifest))


@pytest.mark.parametrize(("kind", "acted"), [("cut", False), ("cut", True), ("half", False)])
def test_a_release_interrupted_at_any_request_is_completed_by_the_next_try(
    github: GitHubDouble, publish: Publish, tmp_path: Path, kind: str, acted: bool
) -> None:
    release, number = a_release(tmp_path), 0
    while True:
        github.set(releases={})
        github.fail(kind, "/assets$" if kind == "half" else "", skip=number, acted=acted)
        try:
            publish(release)
        except GitHubUnavailable:
            publish(release)
        github.mend()
        right(github, release)
        if sum(bool(one["fault"]) for one in github.requests()) == number:
            break  # a release has no more requests
        number += 1
    assert number >= (4 if kind == "half" else 13)


def test_what_is_right_is_kept_and_what_is_half_or_wrong_is_sent_again(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    number = draft(github, release, publish, "PATCH")
    releases = github.state()["releases"]
    kept, half, wrong, _ = assets = releases[str(number)]["assets"]
    half |= {"state": "starter", "size": 0, "sha256": ""}
    wrong["sha256"] = "0" * 64
    stray = {**kept, "id": 5, "name": "stray.whl"}
    github.set_assets(number, [*assets, stray])
    publish(release)
    found = {one["name"]: one["id"] for one in right(github, release)["assets"]}
    assert found[kept["name"]] == kept["id"]
    assert {half["id"], wrong["id"], 5}.isdisjoint(found.values())


def test_its_draft_is_found_among_many_releases(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    release = a_release(tmp_path)
    number = draft(github, release, publish, "POST .*/assets")
    mine = github.releases()[0]
    others = {str(number + n): {**mine, "id": number + n, "tag_name": f"v0.{n}", "draft": False} for n in range(1, 150)}
    github.set(releases={str(number): mine, **others})
    publish(release)
    assert [one["id"] for one in github.releases() if one["tag_name"] == "v1.0"] == [number]
    assert len(github.releases()) == 150


def test_of_two_drafts_of_its_own_one_is_left_and_those_of_others_are_not_touched(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    number = draft(github, release, publish, "PATCH")
    mine = github.releases()[0]
    theirs = {**mine, "id": 3, "body": "what I shall announce", "assets": []}
    github.set(releases={str(number): mine, "2": {**mine, "id": 2, "assets": []}, "3": theirs})
    publish(release)
    assert github.state()["releases"]["3"] == theirs
    github.set(releases={key: value for key, value in github.state()["releases"].items() if key != "3"})
    right(github, release)


def test_what_is_public_already_is_not_published_again(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    release = a_release(tmp_path)
    publish(release)
    before = written(github)
    assert publish(release) == "https://github.com/acme/sample/releases/tag/v1.0 was published before"
    assert written(github) == before


def test_a_public_release_of_something_else_is_refused_and_not_touched(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    publish(a_release(tmp_path))
    before = github.releases()
    with pytest.raises(
        ReleaseRefused, match=r"^v1\.0 is public already at https.*: b\.whl, SHA256SUMS, release\.json;"
    ):
        publish(a_release(tmp_path, **{"b.whl": b"more"}))
    assert github.releases() == before


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("v9", "GitHub has no tag v9: push it, then run this stage again"),
        ("other", f"other is commit {OTHER} on GitHub; this run built {COMMIT}"),
        ("annotated", f"annotated is commit {OTHER} on GitHub; this run built {COMMIT}"),
    ],
)
def test_a_tag_that_is_not_there_or_not_of_this_commit_is_refused(
    github: GitHubDouble, publish: Publish, tmp_path: Path, tag: str, said: str
) -> None:
    github.tag("other", OTHER)
    github.tag("annotated", OTHER, annotated="d" * 40)
    with pytest.raises(ReleaseRefused) as refused:
        publish(a_release(tmp_path, tag))
    assert str(refused.value) == said
    assert (written(github), github.releases()) == ([], [])


def test_a_tag_that_goes_while_files_are_sent_is_not_made_anew(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    draft(github, release, publish, "PATCH")
    github.set(refs={})
    with pytest.raises(ReleaseRefused):
        publish(release)
    assert [one["draft"] for one in github.releases()] == [True]
    assert github.state()["refs"] == {}


def test_a_file_that_is_not_what_was_accepted_is_refused_before_anything_is_made(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    release.assets[0].source.write_bytes(b"another")
    with pytest.raises(ReleaseRefused, match="is not what was accepted: 7 bytes"):
        publish(release)
    assert github.releases() == []


def test_a_name_that_github_would_change_is_refused(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match=r"GitHub calls a b\.whl a\.b\.whl"):
        publish(a_release(tmp_path, **{"a b.whl": b"x"}))
    assert [one["draft"] for one in github.releases()] == [True]


@pytest.mark.parametrize(
    ("tag", "public", "prerelease", "latest"),
    [
        ("v2.0.0", ["v1.0.0"], False, "legacy"),
        ("v2.0.0rc1", ["v1.0.0"], True, "false"),
        ("v2.0.0.dev3", [], True, "false"),
        ("v1.0.1", ["v2.0.0"], False, "false"),
        ("v1.0.1", ["nightly"], False, "legacy"),
        ("nightly", ["v2.0.0"], False, "legacy"),
    ],
)
def test_prereleases_and_older_versions_are_not_the_latest(
    github: GitHubDouble, publish: Publish, tmp_path: Path, tag: str, public: list[str], prerelease: bool, latest: str
) -> None:
    for other in public:
        github.tag(other, COMMIT)
        publish(a_release(tmp_path, other))
    github.tag(tag, COMMIT)
    publish(a_release(tmp_path, tag))
    found = github.releases()[-1]
    assert (found["tag_name"], found["prerelease"], found["make_latest"]) == (tag, prerelease, latest)


def test_where_github_names_no_digest_its_files_are_read(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    github.set(digests=False)
    number = draft(github, release, publish, "PATCH")
    first = github.releases()[0]["assets"][0]
    (github.folder / str(first["id"])).write_bytes(b"another"[: first["size"]])
    publish(release)
    found = right(github, release)
    assert found["id"] == number
    assert first["id"] not in [one["id"] for one in found["assets"]]
    assert len({one["path"] for one in github.requests("GET") if "/storage/" in one["path"]}) >= 4


def test_notes_that_are_too_long_are_cut_and_lie_beside_the_files(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    publish(a_release(tmp_path, notes="ä" * 125_001))
    (found,) = github.releases()
    assert len(found["body"]) == 125_000
    assert found["body"].endswith("the notes go on in RELEASE_NOTES.md, among the files below.\n")
    (notes,) = (one for one in found["assets"] if one["name"] == "RELEASE_NOTES.md")
    assert (github.folder / str(notes["id"])).read_text() == "ä" * 125_001


@pytest.mark.parametrize("kind", ["limit", "secondary", "primary", "error", "cut"])
def test_a_storm_is_waited_out_as_github_asks(
    github: GitHubDouble, publish: Publish, tmp_path: Path, kind: str
) -> None:
    release = a_release(tmp_path)
    github.fail(kind, "/assets", count=1, skip=1, retry_after=1)
    github.fail(kind, "PATCH", count=1, retry_after=1)
    publish(release, patience=60)
    right(github, release)
    befallen = [number for number, one in enumerate(github.requests()) if one["fault"]]
    assert len(befallen) == 2
    waits = [github.requests()[n + 1]["at"] - github.requests()[n]["at"] for n in befallen]
    assert min(waits) > 0.9


@pytest.mark.parametrize("status", [401, 404, 422])
def test_what_changed_between_looking_and_acting_is_looked_at_once_more(
    github: GitHubDouble, publish: Publish, tmp_path: Path, status: int
) -> None:
    release = a_release(tmp_path)
    github.fail("error", "POST .*/assets", count=2, status=status)
    with pytest.raises(GitHubRefused):
        publish(release)
    github.fail("error", "POST .*/assets", status=status)
    publish(release)
    right(github, release)


def test_an_outage_that_is_longer_than_its_patience_ends_the_try(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    github.fail("error", count=0)
    with pytest.raises(GitHubUnavailable):
        publish(a_release(tmp_path), patience=1.5)
    assert len([one for one in github.requests() if one["fault"]]) >= 2


def test_a_missing_permission_is_named(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    tokens = github.state()["tokens"]
    github.set(tokens={text: {**token, "permissions": {"contents": "read"}} for text, token in tokens.items()})
    with pytest.raises(GitHubRefused, match="lacks contents: write"):
        publish(a_release(tmp_path))
    assert GRANTED["contents"] == "write"


def test_a_cancelled_release_is_not_published(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    release, stop = a_release(tmp_path), threading.Event()
    github.fail("error", "PATCH", count=0)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            publish(release, patience=600, stop=stop)
        except ReleaseStopped as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until = time.monotonic() + 30
    while not github.requests("PATCH") and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    assert ended
    assert [one["draft"] for one in github.releases()] == [True]


def test_a_release_begins_with_a_token_that_will_last(
    github: GitHubDouble, access: Access, publish: Publish, tmp_path: Path
) -> None:
    github.set(token_life=900)
    soon = access.token({"contents": "write"}, lasts=7200)
    github.set(token_life=3600)
    publish(a_release(tmp_path))
    assert access.token({"contents": "write"}) != soon
    right(github, a_release(tmp_path))


class Cancelled(threading.Event):
    """Is set while the release waits to try again, and something happens to GitHub then."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.then = then

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        self.then()
        return True


def test_a_release_that_became_public_as_it_was_cancelled_says_so(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    release = a_release(tmp_path)
    github.fail("cut", "PATCH", acted=True)
    said = publish(release, patience=600, stop=Cancelled())
    assert said == "https://github.com/acme/sample/releases/tag/v1.0 was published before"
    right(github, release)


def test_a_release_that_did_not_become_public_is_stopped(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    github.fail("cut", "PATCH")
    with pytest.raises(ReleaseStopped):
        publish(a_release(tmp_path), patience=600, stop=Cancelled())
    assert [one["draft"] for one in github.releases()] == [True]


def test_where_github_does_not_tell_whether_it_is_public_nobody_says_that_it_is_not(
    github: GitHubDouble, publish: Publish, tmp_path: Path
) -> None:
    github.fail("cut", "PATCH", acted=True)
    with pytest.raises(GitHubUnavailable, match=r"stopped while v1\.0 was made public, and GitHub does not tell"):
        publish(a_release(tmp_path), patience=600, stop=Cancelled(lambda: github.fail("error", count=0)))


def test_a_cancelled_upload_ends_at_once(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    stop = threading.Event()
    release = a_release(tmp_path)
    sent: list[int] = []

    class Source(type(tmp_path)):  # type: ignore[misc]
        """Stops the release when it is opened the second time: the first is to check it."""

        def open(self, *arguments: Any, **more: Any) -> Any:
            sent.append(1)
            if len(sent) == 2:
                stop.set()
            return super().open(*arguments, **more)

    first = release.assets[0]
    stopping = Asset(name=first.name, artifact="", source=Source(first.source), size=first.size, sha256=first.sha256)
    with pytest.raises(ReleaseStopped):
        publish(Release(tag="v1.0", commit=COMMIT, notes="n", assets=(stopping,)), stop=stop)
    (found,) = github.releases()
    assert found["draft"]
    assert [one["state"] for one in found["assets"]] in ([], ["starter"])


def test_large_files_are_not_read_into_memory(github: GitHubDouble, publish: Publish, tmp_path: Path) -> None:
    large = tmp_path / "large.whl"
    with large.open("wb") as file:
        file.truncate(96 << 20)
    with large.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    one = Asset(name="large.whl", artifact="", source=large, size=96 << 20, sha256=digest)
    release = Release(tag="v1.0", commit=COMMIT, notes="n", assets=(one,))
    tracemalloc.start()
    try:
        publish(release)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    right(github, release)
    assert peak < 48 << 20
