"""The tests' own GitHub behaves like GitHub where it matters: permissions, limits, pages, releases, faults."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import httpx
import jwt
import pytest
from github_double import GitHubDouble

SHA, OTHER = "a" * 40, "b" * 40
REPO = "/repos/acme/sample"
DENIED = (403, "Resource not accessible by integration")


@pytest.fixture
def client(github: GitHubDouble) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=github.url, trust_env=False, timeout=10) as client:
        yield client


def app_token(github: GitHubDouble, client: httpx.Client, **permissions: str) -> dict[str, str]:
    now = int(time.time())
    bearer = jwt.encode({"iat": now - 60, "exp": now + 300, "iss": str(github.app_id)}, github.app_key, "RS256")
    headers = {"Authorization": f"Bearer {bearer}"}
    found = client.get(f"{REPO}/installation", headers=headers).json()["id"]
    body = {"permissions": permissions, "repositories": ["sample"]}
    answer = client.post(f"/app/installations/{found}/access_tokens", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["permissions"] == {"metadata": "read", **permissions}
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["message"]


def test_a_token_may_what_it_was_minted_for_and_nothing_else(github: GitHubDouble, client: httpx.Client) -> None:
    reads, writes = app_token(github, client, statuses="read"), app_token(github, client, statuses="write")
    status = {"state": "success", "context": "mlc-ci/test"}
    assert said(client.post(f"{REPO}/statuses/{SHA}", json=status, headers=reads)) == DENIED
    assert client.post(f"{REPO}/statuses/{SHA}", json=status, headers=writes).status_code == 201
    assert said(client.post(f"{REPO}/releases", json={"tag_name": "v1"}, headers=writes)) == DENIED
    assert said(client.post(f"{REPO}/statuses/{SHA}", json=status)) == (401, "Requires authentication")
    assert client.get("/repos/acme/other", headers=writes).status_code == 404
    assert list(github.statuses(SHA)) == ["mlc-ci/test"]
    assert [one["status"] for one in github.requests("POST", SHA)] == [403, 201, 401]
    assert github.requests("POST", SHA)[1]["permissions"] == {"metadata": "read", "statuses": "write"}


def test_an_app_that_is_another_or_lives_too_long_gets_no_token(github: GitHubDouble, client: httpx.Client) -> None:
    now, path = int(time.time()), f"/app/installations/{github.installation_id}/access_tokens"
    for claims in ({"iss": "1", "exp": now + 300}, {"iss": str(github.app_id), "exp": now + 3600}):
        bearer = jwt.encode({"iat": now, **claims}, github.app_key, "RS256")
        assert client.post(path, headers={"Authorization": f"Bearer {bearer}"}).status_code == 401
    bearer = jwt.encode(
        {"iat": now, "exp": now + 300, "iss": github.app_id and str(github.app_id)}, github.app_key, "RS256"
    )
    answer = client.post(path, json={"permissions": {"issues": "write"}}, headers={"Authorization": f"Bearer {bearer}"})
    assert said(answer) == (422, "The permissions requested are not granted to this installation.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "skipped"},
        {"state": "success", "description": "x" * 141},
        {"state": "success", "colour": "green"},
        {"state": "success", "target_url": "ftp://example.com"},
        {"state": "success", "context": 1},
        {},
    ],
)
def test_a_status_that_github_would_refuse_is_refused(
    github: GitHubDouble, client: httpx.Client, wrong: dict[str, object]
) -> None:
    headers = app_token(github, client, statuses="write")
    assert client.post(f"{REPO}/statuses/{SHA}", json=wrong, headers=headers).status_code == 422
    assert github.statuses(SHA) == {}


def test_the_newest_status_of_each_context_counts(github: GitHubDouble, client: httpx.Client) -> None:
    github.set(known=[SHA])
    headers = app_token(github, client, statuses="write")
    for context, state in (("a", "pending"), ("b", "success"), ("a", "failure")):
        body = {"state": state, "context": context, "description": "x" * 140}
        assert client.post(f"{REPO}/statuses/{SHA}", json=body, headers=headers).status_code == 201
    combined = client.get(f"{REPO}/commits/{SHA}/status", headers=headers).json()
    assert (combined["state"], combined["total_count"]) == ("failure", 2)
    assert said(client.post(f"{REPO}/statuses/{OTHER}", json=body, headers=headers))[1].startswith("No commit found")


def test_lists_come_in_pages(github: GitHubDouble, client: httpx.Client) -> None:
    headers = app_token(github, client, pull_requests="write")
    github.pull(7, SHA, files=[f"src/{number}.py" for number in range(75)])
    seen, url = [], f"{REPO}/pulls/7/files"
    while url:
        answer = client.get(url, headers=headers)
        seen += [one["filename"] for one in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert len(set(seen)) == 75
    assert len(github.requests("GET", "/files")) == 3


def test_only_ones_own_comment_is_changed(github: GitHubDouble, client: httpx.Client) -> None:
    headers = app_token(github, client, pull_requests="write")
    github.personal_token("other", {"pull_requests": "write"})
    github.pull(7, SHA)
    made = client.post(f"{REPO}/issues/7/comments", json={"body": "one"}, headers=headers).json()
    path = f"{REPO}/issues/comments/{made['id']}"
    assert client.patch(path, json={"body": "two"}, headers=headers).status_code == 200
    assert client.patch(path, json={"body": "three"}, headers={"Authorization": "token other"}).status_code == 403
    assert client.post(f"{REPO}/issues/8/comments", json={"body": "one"}, headers=headers).status_code == 404
    assert github.comments(7) == ["two"]


def test_a_release_is_hidden_until_it_is_published(github: GitHubDouble, client: httpx.Client) -> None:
    writes, reads = app_token(github, client, contents="write"), app_token(github, client, contents="read")
    github.tag("v1", SHA, annotated=OTHER)
    made = client.post(f"{REPO}/releases", json={"tag_name": "v1", "draft": True}, headers=writes).json()
    upload = made["upload_url"].removesuffix("{?name,label}")
    binary = {**writes, "Content-Type": "application/octet-stream"}
    asset = client.post(upload, params={"name": "a+b.whl"}, content=b"wheel", headers=binary).json()
    assert (asset["name"], asset["state"]) == ("a+b.whl", "uploaded")
    assert asset["digest"] == f"sha256:{hashlib.sha256(b'wheel').hexdigest()}"
    again = client.post(upload, params={"name": "a+b.whl"}, content=b"other", headers=binary)
    assert again.json()["errors"][0]["code"] == "already_exists"
    assert client.get(f"{REPO}/releases/tags/v1", headers=writes).status_code == 404
    assert client.get(f"{REPO}/releases", headers=reads).json() == []
    client.patch(f"{REPO}/releases/{made['id']}", json={"draft": False}, headers=writes)
    assert client.get(f"{REPO}/releases/tags/v1", headers=reads).json()["id"] == made["id"]
    raw = {**reads, "Accept": "application/octet-stream"}
    found = client.get(f"{REPO}/releases/assets/{asset['id']}", headers=raw)
    assert found.status_code == 302
    assert client.get(found.headers["location"]).content == b"wheel"
    twice = client.post(f"{REPO}/releases", json={"tag_name": "v1"}, headers=writes)
    assert twice.json()["errors"][0]["code"] == "already_exists"


def test_an_upload_that_is_cut_leaves_a_starter(github: GitHubDouble, client: httpx.Client) -> None:
    writes = app_token(github, client, contents="write")
    made = client.post(f"{REPO}/releases", json={"tag_name": "v1", "draft": True}, headers=writes).json()

    def half() -> Iterator[bytes]:
        yield b"half"
        raise httpx.ReadError("killed")

    headers = {**writes, "Content-Type": "application/octet-stream", "Content-Length": "1000"}
    with pytest.raises(httpx.ReadError):
        client.post(f"{REPO}/releases/{made['id']}/assets", params={"name": "a"}, content=half(), headers=headers)
    listed = client.get(f"{REPO}/releases/{made['id']}/assets", headers=writes).json()
    assert [(one["name"], one["state"], one["digest"]) for one in listed] == [("a", "starter", None)]


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize(
    ("kind", "status"), [("error", 502), ("limit", 429), ("secondary", 403), ("primary", 403), ("cut", 0)]
)
def test_a_fault_befalls_as_many_requests_as_ordered(
    github: GitHubDouble, client: httpx.Client, kind: str, status: int, acted: bool
) -> None:
    headers = app_token(github, client, statuses="write")
    github.fail(kind, "POST .*/statuses/", skip=1, count=1, retry_after=7, acted=acted)
    found = []
    for context in "abc":
        try:
            answer = client.post(
                f"{REPO}/statuses/{SHA}", json={"state": "success", "context": context}, headers=headers
            )
            found.append(answer.status_code)
            if kind in ("limit", "secondary") and context == "b":
                assert answer.headers["retry-after"] == "7"
        except httpx.RemoteProtocolError:
            found.append(0)
    assert found == [201, status, 201]
    assert sorted(github.statuses(SHA)) == (["a", "b", "c"] if acted else ["a", "c"])
    assert [one["fault"] for one in github.requests("POST", SHA)] == ["", kind, ""]


def test_a_hang_lasts_until_it_is_mended(github: GitHubDouble, client: httpx.Client) -> None:
    headers = app_token(github, client, statuses="read")
    github.fail("hang", count=0)
    with pytest.raises(httpx.ReadTimeout):
        client.get(f"{REPO}/commits/{SHA}/status", headers=headers, timeout=0.3)
    github.mend()
    assert client.get(f"{REPO}/commits/{SHA}/status", headers=headers).status_code == 200
