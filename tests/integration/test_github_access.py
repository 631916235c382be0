"""How GitHub is asked: tokens for exactly what is to be done, and errors that say what to do, without secrets."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from github_double import GitHubDouble

from master.github.access import Access, GitHubError, GitHubRefused, GitHubUnavailable, access_of
from master.github.client import translated
from master.github.failures import AccessRefused, of_answer
from master.settings import parse
from master.settings_github import GitHubSettings

READ = {"contents": "read"}
WRITE = {"statuses": "write"}
SHA = "a" * 40
MINIMAL = """
[project]
name = "sample"
repository = "sample.git"
[workers.here]
trust = "trusted"
provides = ["python"]
[workers.there]
trust = "untrusted"
provides = ["python"]
[stages.lint]
uses = "commands"
commands = ["make lint"]
"""


def access(
    github: GitHubDouble, folder: Path, kind: Literal["app", "token"] = "app", secret: str = "", api: str = ""
) -> Access:
    settings = GitHubSettings(repository="acme/sample", access=kind, app_id=github.app_id, api=api or github.url)
    file = folder / ("github-app-key" if kind == "app" else "github-token")
    file.touch(mode=0o600)
    file.write_text(secret or github.app_key)
    return Access(settings, folder)


def minted(github: GitHubDouble) -> list[Any]:
    return [each["body"] for each in github.requests("POST", "/access_tokens")]


def set_status(asking: Access, sha: str = SHA) -> None:
    with asking.client(WRITE) as github:
        github.rest.repos.create_commit_status(asking.owner, asking.repository, sha, state="success", context="x")


def test_nothing_is_asked_without_access() -> None:
    for more, asked in (
        ("", False),
        ("[github]\nrepository = 'a/b'\n", False),
        ("[github]\nrepository = 'a/b'\naccess = 'token'\n", True),
    ):
        settings = parse(MINIMAL + more).settings
        assert settings
        assert bool(access_of(settings, Path())) is asked


def test_a_token_is_made_for_what_is_asked_and_kept_while_it_lasts(github: GitHubDouble, tmp_path: Path) -> None:
    asking = access(github, tmp_path)
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda _: asking.token(READ), range(8)))
    assert len(tokens) == 1, "asked for at the same time, it is made once"
    assert asking.token(WRITE) not in tokens
    assert minted(github) == [
        {"repositories": ["sample"], "permissions": READ},
        {"repositories": ["sample"], "permissions": WRITE},
    ]
    assert len(github.requests("GET", "/installation")) == 1
    assert asking.token(READ, lasts=7200) not in tokens, "one that lasts longer is another one"


def test_a_token_that_ends_soon_is_not_handed_out_again(github: GitHubDouble, tmp_path: Path) -> None:
    github.forget(token_life=301)
    asking = access(github, tmp_path)
    first = asking.token(READ)
    time.sleep(1.1)
    assert asking.token(READ) != first


def test_a_personal_token_is_used_whatever_is_asked_and_a_new_one_at_once(github: GitHubDouble, tmp_path: Path) -> None:
    github.personal_token("pat-1", WRITE)
    asking = access(github, tmp_path, "token", "pat-1\n")
    set_status(asking)
    (tmp_path / "github-token").write_text("pat-2")
    with pytest.raises(AccessRefused, match=r"401.*secrets folder"):
        set_status(asking)
    assert minted(github) == []


def test_a_token_that_github_no_longer_knows_is_made_anew(github: GitHubDouble, tmp_path: Path) -> None:
    asking = access(github, tmp_path)
    set_status(asking)
    github.set(tokens={})
    with pytest.raises(AccessRefused):
        set_status(asking)
    set_status(asking)
    assert len(minted(github)) == 2


def test_what_the_app_may_not_names_the_permission(github: GitHubDouble, tmp_path: Path) -> None:
    github.forget(granted={"metadata": "read", "contents": "read"})
    with pytest.raises(AccessRefused, match="no token for statuses: write"):
        set_status(access(github, tmp_path))
    github.personal_token("pat", READ)
    with pytest.raises(AccessRefused, match=r"403.*lacks statuses: write"):
        set_status(access(github, tmp_path, "token", "pat"))


def test_an_app_is_never_asked_for_a_token_that_may_everything(github: GitHubDouble, tmp_path: Path) -> None:
    with pytest.raises(AccessRefused, match="without a permission"):
        access(github, tmp_path).token({})
    assert minted(github) == []


@pytest.mark.parametrize(
    ("kind", "more", "least", "most"),
    [
        ("limit", {"retry_after": 7}, 7, 7),
        ("secondary", {"retry_after": 9}, 9, 9),
        ("secondary", {}, 60, 60),
        ("primary", {"retry_after": 30}, 25, 30),
        ("error", {"status": 502}, None, None),
        ("cut", {}, None, None),
    ],
)
def test_what_passes_is_told_apart_with_how_long_it_takes(
    github: GitHubDouble, tmp_path: Path, kind: str, more: Any, least: float | None, most: float | None
) -> None:
    asking = access(github, tmp_path)
    github.fail(kind, "POST .*/statuses/", **more)
    with pytest.raises(GitHubUnavailable) as caught:
        set_status(asking)
    if least is None or most is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after is not None
        assert least <= caught.value.retry_after <= most
    set_status(asking)
    assert len(github.requests("POST", f"/statuses/{SHA}")) == 2, "asked once each time"


def test_what_is_wrong_with_the_request_is_refused(github: GitHubDouble, tmp_path: Path) -> None:
    github.forget(known=[SHA])
    with pytest.raises(GitHubRefused) as caught:
        set_status(access(github, tmp_path), "b" * 40)
    assert caught.value.status == 422
    assert not isinstance(caught.value, AccessRefused)


def test_an_answer_that_is_cut_while_it_is_read_is_an_outage(tmp_path: Path) -> None:
    class Cut(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "github-token").touch(mode=0o600)
    (tmp_path / "github-token").write_text("pat")
    with HTTPServer(("127.0.0.1", 0), Cut) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        api = f"http://127.0.0.1:{server.server_port}"
        asking = Access(GitHubSettings(repository="acme/sample", access="token", api=api), tmp_path)
        with pytest.raises(GitHubUnavailable, match="RemoteProtocolError"), asking.client(READ) as github:
            list(github.request("GET", "/asset", stream=True).raw_response.iter_bytes())
        thread.join()


def test_no_server_is_an_outage(github: GitHubDouble, tmp_path: Path) -> None:
    github.personal_token("pat", WRITE)
    asking = access(github, tmp_path, "token", "pat", api="http://127.0.0.1:1")  # nothing listens there
    with pytest.raises(GitHubUnavailable, match="cannot be reached: ConnectError"):
        set_status(asking)


@pytest.mark.parametrize(
    ("kind", "secret"),
    [("app", "no key"), ("app", "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----"),
     ("token", "hunter2\u4e2d"), ("token", "hunter2 with spaces")],
)  # fmt: skip
def test_no_secret_is_in_an_error(github: GitHubDouble, tmp_path: Path, kind: Any, secret: str) -> None:
    asking = access(github, tmp_path, kind, secret)
    with pytest.raises(GitHubError) as caught:
        set_status(asking)
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(asking))
    assert secret not in said
    assert "hunter2" not in said
    (tmp_path / "github-app-key").unlink(missing_ok=True)
    (tmp_path / "github-token").unlink(missing_ok=True)
    with pytest.raises(AccessRefused, match="No such file"):
        set_status(asking)


def test_no_token_is_in_a_repr(github: GitHubDouble, tmp_path: Path) -> None:
    asking = access(github, tmp_path)
    token = asking.token(WRITE)
    with asking.client(WRITE) as client:
        shown = [repr(asking), repr(client), repr(client.auth), repr(client.config)]
    assert not [each for each in shown if token in each]


def test_nothing_heavy_is_loaded_before_github_is_asked() -> None:

    code = "import sys, master.configure; sys.exit('githubkit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_time_is_read_however_it_is_written() -> None:
    at = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
    error = of_answer("POST /x", 429, at, "", {})
    assert isinstance(error, GitHubUnavailable)
    assert error.retry_after == pytest.approx(100, abs=5)
    odd = of_answer("POST /x", 429, {"retry-after": "soon"}, "", {})
    assert isinstance(odd, GitHubUnavailable)
    assert odd.retry_after == 60
    assert isinstance(translated(ValueError("x"), {}), GitHubUnavailable)
