"""What the tests' own GitHub says is as GitHub describes it; what that description does not allow is refused."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from github_double import GitHubDouble
from npm import environment
from prism import Prism

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prism")]
SHA, OBJECT = "a" * 40, "b" * 40
REPO = "/repos/acme/sample"
STATUS = {
    "state": "success",
    "context": "mlc-ci/test",
    "description": "as planned",
    "target_url": "https://ci.example/1",
}


@pytest.fixture
def client(github: GitHubDouble, prism: Prism) -> Iterator[httpx.Client]:
    """With a token that may everything, of an App that asked for it through Prism."""
    github.tag("v1", SHA, annotated=OBJECT)
    github.branch("main", SHA)
    github.pull(7, SHA, files=["a b.py", "src/c.cc"])
    github.person("ann", "maintain")
    now = int(time.time())
    bearer = jwt.encode({"iat": now - 60, "exp": now + 300, "iss": str(github.app_id)}, github.app_key, "RS256")
    with httpx.Client(base_url=prism.url, trust_env=False, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {bearer}"
        assert client.get("/app").status_code == 200
        found = client.get(f"{REPO}/installation")
        assert found.status_code == 200, found.text
        wanted = {"contents": "write", "statuses": "write", "pull_requests": "write"}
        body = {"repositories": ["sample"], "permissions": wanted}
        made = client.post(f"/app/installations/{found.json()['id']}/access_tokens", json=body)
        assert made.status_code == 201, made.text
        client.headers["Authorization"] = f"Bearer {made.json()['token']}"
        yield client


@pytest.mark.parametrize(
    "path",
    [
        REPO,
        f"{REPO}/git/ref/tags%2Fv1",
        f"{REPO}/git/ref/tags%2Fnone",
        f"{REPO}/git/tags/{OBJECT}",
        f"{REPO}/git/commits/{SHA}",
        f"{REPO}/commits/main",
        f"{REPO}/pulls/7",
        f"{REPO}/pulls/7/files",
        f"{REPO}/pulls/8",
        f"{REPO}/collaborators/ann/permission",
        "/users/ann",
        "/rate_limit",
        "/meta",
    ],
)
def test_what_the_double_says_is_as_described(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == (404 if path.endswith(("none", "/8")) else 200), answer.text


def test_statuses_and_comments_are_as_described(client: httpx.Client, github: GitHubDouble) -> None:
    made = client.post(f"{REPO}/statuses/{SHA}", json=STATUS)
    assert made.status_code == 201, made.text
    for what in ("status", "statuses"):
        assert client.get(f"{REPO}/commits/{SHA}/{what}").status_code == 200
    comment = client.post(f"{REPO}/issues/7/comments", json={"body": "one"})
    assert comment.status_code == 201, comment.text
    one = f"{REPO}/issues/comments/{comment.json()['id']}"
    answers = [client.patch(one, json={"body": "two"}), client.get(one), client.get(f"{REPO}/issues/7/comments")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert client.delete(one).status_code == 204
    assert list(github.statuses(SHA)) == ["mlc-ci/test"]


def test_releases_are_as_described(client: httpx.Client) -> None:
    body = {"tag_name": "v1", "draft": True, "prerelease": False, "make_latest": "legacy", "body": "notes"}
    made = client.post(f"{REPO}/releases", json=body)
    assert made.status_code == 201, made.text
    release = f"{REPO}/releases/{made.json()['id']}"
    binary = {"Content-Type": "application/octet-stream"}
    uploaded = client.post(f"{release}/assets", params={"name": "a.whl"}, content=b"wheel", headers=binary)
    assert uploaded.status_code == 201, uploaded.text
    asset = f"{REPO}/releases/assets/{uploaded.json()['id']}"
    for path in (f"{REPO}/releases?per_page=100", release, f"{release}/assets", asset):
        assert client.get(path).status_code == 200, path
    assert client.patch(release, json={"draft": False}).status_code == 200
    for path in ("tags/v1", "latest"):
        assert client.get(f"{REPO}/releases/{path}").status_code == 200, path
    refused = client.post(f"{REPO}/releases", json={"tag_name": "v1"})
    assert refused.json()["errors"][0]["code"] == "already_exists"
    assert [client.delete(asset).status_code, client.delete(release).status_code] == [204, 204]


@pytest.mark.parametrize(
    "wrong", [{**STATUS, "state": "skipped"}, {**STATUS, "description": 1}, {"context": "mlc-ci/test"}]
)
def test_a_wrong_request_does_not_reach_the_double(
    client: httpx.Client, github: GitHubDouble, prism: Prism, wrong: dict[str, object]
) -> None:
    with prism.refuses("Invalid request"):
        answer = client.post(f"{REPO}/statuses/{SHA}", json=wrong)
    assert (answer.status_code, answer.json()["title"]) == (422, "Invalid request")
    assert github.requests("POST", SHA) == []


def test_a_wrong_answer_does_not_reach_the_master(client: httpx.Client, github: GitHubDouble, prism: Prism) -> None:
    assert client.post(f"{REPO}/statuses/{SHA}", json=STATUS).status_code == 201
    github.set(statuses=[{**github.state()["statuses"][0], "created_at": 5}])
    with prism.refuses("Request/Response not valid"):
        answer = client.get(f"{REPO}/commits/{SHA}/statuses")
    assert (answer.status_code, answer.json()["title"]) == (500, "Request/Response not valid")
    assert "created_at" in answer.text


def test_a_machine_without_node_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="no node and no npm: pip install"):
        environment()
