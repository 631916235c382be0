"""Login to the page with GitHub: who may do what, with a real master and a stand-in for GitHub's side of OAuth."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from pipelines import pipeline
from rig import Rig

from master.client import Client, MasterSaidNo

pytestmark = pytest.mark.slow

SECRET = "oauth-canary-0815"
TEAMS = {  # as GitHub answers: organisation/slug -> login -> (role's state)
    "acme/release-crew": {"Ann": "active", "Ivy": "pending"},
    "acme/other": {"Bob": "active"},
}


class GitHubSide:
    """Sends every browser back as ``who``, and tells about users and teams what GitHub would."""

    def __init__(self) -> None:
        self.who = "Ann"
        self.codes: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.scopes: list[str] = []
        self.broken = False
        side = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                side.get(self, urlsplit(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                side.post(self, urlsplit(self.path).path, {k: v[0] for k, v in parse_qs(body).items()})

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def get(self, handler: BaseHTTPRequestHandler, url: Any) -> None:
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/login/oauth/authorize":
            assert asked["client_id"] == "Iv1.client"
            self.scopes.append(asked.get("scope", ""))
            code = secrets.token_hex(8)
            self.codes[code] = self.who
            more = {"state": asked["state"]} if "state" in asked else {}
            return self._send(
                handler, 302, "", Location=asked["redirect_uri"] + "?" + urlencode({"code": code, **more})
            )
        user = self.tokens.get(handler.headers.get("Authorization", "").removeprefix("token "))
        if self.broken or user is None:
            return self._send(handler, 500 if self.broken else 401, "{}")
        if url.path == "/api/v3/user":
            return self._send(handler, 200, json.dumps({"login": user, "name": None, "email": None}))
        *_, organisation, _, team, _, login = url.path.split("/")
        assert login == user
        known = {name: people for name, people in TEAMS.items() if name == f"{organisation}/{team}"}
        state = next((people[user] for people in known.values() if user in people), None)
        return self._send(handler, 200, json.dumps({"state": state})) if state else self._send(handler, 404, "{}")

    def post(self, handler: BaseHTTPRequestHandler, path: str, form: dict[str, str]) -> None:
        assert path == "/login/oauth/access_token"
        user = self.codes.pop(form["code"], None)
        if form["client_secret"] != SECRET or user is None:
            return self._send(handler, 200, "error=bad_verification_code&error_description=The+code+is+incorrect.")
        token = "gho-" + secrets.token_hex(8)
        self.tokens[token] = user
        return self._send(handler, 200, urlencode({"access_token": token, "scope": "read:org", "token_type": "bearer"}))

    def _send(self, handler: BaseHTTPRequestHandler, code: int, body: str, **headers: str) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())


@pytest.fixture(scope="module")
def side() -> Iterator[GitHubSide]:
    side = GitHubSide()
    yield side
    side.stop()


@pytest.fixture(scope="module")
def site(side: GitHubSide, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A master without workers: what is asked of it waits."""
    github = {"repository": "acme/sample", "webhook": False, "web": side.url, "api": f"{side.url}/api/v3"}
    github |= {"login": {"client_id": "Iv1.client", "admins": ["acme/Release-Crew", "OPERATOR"]}}
    rig = Rig(tmp_path_factory.mktemp("login") / "rig", template, pipeline(github=github))
    secret = rig.site.basedir / "secrets" / "github-oauth-secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    try:
        rig.start_master()
        yield rig
        told = [file.read_bytes() for file in rig.folder.rglob("*.log*")]
        assert told
        assert SECRET.encode() not in b"".join(told) + (rig.site.basedir / "state.sqlite").read_bytes()
        assert not any(token.encode() in b"".join(told) for token in side.tokens)
        assert b"Traceback" not in b"".join(told)
    finally:
        rig.stop()


@contextlib.contextmanager
def _browser(site: Rig, side: GitHubSide, who: str) -> Iterator[httpx.Client]:
    """A browser in which this user of GitHub has pressed "Login"."""
    side.who = who
    with httpx.Client(base_url=site.site.url, timeout=30, trust_env=False, follow_redirects=True) as client:
        assert client.get("auth/login", params={"redirect": "/pipelines"}).status_code == 200
        yield client


def _user(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("config").json()["user"]
    return answer


def _waiting_run(site: Rig) -> int:
    client = Client(site.site.url, (site.site.basedir / "secrets" / "admin-password").read_text().strip())
    client.dispatch(ref="main", stages=[], threads=0, publish=False, reason="")
    return int(client.runs(limit=1)[0]["id"])


def _cancelled(site: Rig, run_id: int) -> bool:
    return bool(site.rows("select 1 from runs where id = ? and cancelled != ''", run_id))


@pytest.mark.parametrize("who", ["Ann", "operator", "Operator"])
def test_members_of_the_team_and_named_users_give_orders(site: Rig, side: GitHubSide, who: str) -> None:
    run_id = _waiting_run(site)
    with _browser(site, side, who) as client:
        assert _user(client)["username"] == who
        answer = client.post(f"plugins/mlc_ci/api/runs/{run_id}/cancel", json={})
    assert answer.status_code == 200, answer.text
    assert _cancelled(site, run_id)
    assert side.scopes[-1] == "read:org"


@pytest.mark.parametrize(
    "who",
    [
        "Bob",  # a member of another team
        "Ivy",  # invited, and not a member yet
        "admin",  # the local administrator's name, on GitHub
        "acme",  # the organisation's
        "release-crew",
    ],
)
def test_a_stranger_is_logged_in_and_gives_none(site: Rig, side: GitHubSide, who: str) -> None:
    run_id = _waiting_run(site)
    with _browser(site, side, who) as client:
        assert _user(client)["username"] == who
        assert client.post(f"plugins/mlc_ci/api/runs/{run_id}/cancel", json={}).status_code == 403
        order = {"jsonrpc": "2.0", "method": "force", "params": {"ref": "main"}, "id": 1}
        assert client.post("api/v2/forceschedulers/run", json=order).status_code == 403
    assert not _cancelled(site, run_id)


def test_a_login_that_github_does_not_complete_is_none(site: Rig, side: GitHubSide) -> None:
    with httpx.Client(base_url=site.site.url, timeout=30, trust_env=False, follow_redirects=True) as client:
        refused = client.get("auth/login", params={"code": "made-up"})
        assert (refused.status_code, refused.text) == (
            403,
            "GitHub did not complete the login: The code is incorrect.; begin again",
        )
        side.broken = True
        try:
            assert client.get("auth/login").status_code == 503
        finally:
            side.broken = False
        assert _user(client)["anonymous"]


def test_the_command_line_goes_on_with_the_local_password(site: Rig) -> None:
    run_id = _waiting_run(site)
    with pytest.raises(MasterSaidNo):
        Client(site.site.url, "wrong").cancel(run_id)
    assert not _cancelled(site, run_id)
    Client(site.site.url, (site.site.basedir / "secrets" / "admin-password").read_text().strip()).cancel(run_id)
    assert _cancelled(site, run_id)
