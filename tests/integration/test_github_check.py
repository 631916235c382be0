"""``mlc-ci github check``: what is wrong between a master and GitHub is named, with what to do; nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from github_double import GRANTED, GitHubDouble
from typer.testing import CliRunner

from master.cli import app
from master.errors import UserError
from master.github.trial import try_github
from master.settings import parse
from master.tried import Tried

WEBHOOK_SECRET = "webhook-canary-4711"
TOKEN = "personal-canary-4711"
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
SETTINGS = """
[project]
name = "sample"
repository = "https://github.com/acme/sample.git"
[master]
url = "{url}"
[workers.linux]
trust = "trusted"
[stages.docker]
uses = "commands"
commands = ["true"]
when = ["push", "tag"]
permissions = {{ packages = "write" }}
[stages.release]
uses = "commands"
commands = ["true"]
when = ["tag"]
permissions = {{ contents = "write" }}
[github]
repository = "acme/sample"
api = "{api}"
{github}
"""


class Page:
    """A web server that gives fixed answers: a master's page, or GitHub as somebody's token sees it."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any, dict[str, str]]] = {"/": (200, {}, {})}
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, headers = page.answers.get(self.path.partition("?")[0], (404, {"message": "no"}, {}))
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # 127.1 is this machine, and does not look like it: GitHub's view of a master is not to be had here
        self.url = f"http://127.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.stop()


class Site:
    """A master's folder, not running, and what is tried with it."""

    def __init__(self, folder: Path, api: str, url: str) -> None:
        self.folder, self.api, self.url = folder, api, url
        self.secrets = folder / "master" / "secrets"
        self.secrets.mkdir(parents=True, mode=0o700)

    def secret(self, name: str, text: str, mode: int = 0o600) -> None:
        (self.secrets / name).write_text(text)
        (self.secrets / name).chmod(mode)

    def text(self, github: str) -> str:
        return SETTINGS.format(api=self.api, url=self.url, github=github)

    def tried(self, github: str) -> list[Tried]:
        examined = parse(self.text(github), file="settings.toml")
        assert examined.settings, "\n".join(map(str, examined.problems))
        found = try_github(examined.settings, self.secrets)
        said = "\n".join(map(str, found))
        assert WEBHOOK_SECRET not in said
        assert TOKEN not in said
        assert "PRIVATE" not in said
        return found


def problems(found: list[Tried]) -> list[str]:
    return [str(each) for each in found if each.ok is False]


def one(found: list[Tried], name: str) -> str:
    """The one problem that there is, of this name."""
    (problem,) = problems(found)
    assert problem.startswith(f"problem   {name}: "), problem
    return problem


# -- an App


@pytest.fixture
def site(tmp_path: Path, github: GitHubDouble, page: Page) -> Site:
    """All as it should be."""
    site = Site(tmp_path / "site", github.url, page.url)
    site.secret("github-app-key", github.app_key)
    site.secret("github-webhook-secret", WEBHOOK_SECRET)
    github.set(hook=_hook(page.url))
    return site


def _hook(address: str, **changes: str) -> dict[str, str]:
    form = {"url": f"{address}change_hook/github", "content_type": "json", "secret": "********", "insecure_ssl": "0"}
    return form | changes


NONE = 'access = "none"'
APP = 'access = "app"\napp_id = 4711'


def test_a_site_without_a_fault_has_no_problem(site: Site) -> None:
    found = site.tried(APP)
    assert not problems(found)
    said = "\n".join(map(str, found))
    assert (
        "ok        permissions: all that these settings need: contents: write, metadata: read, packages: write" in said
    )
    assert "ok        token: GitHub mints one for exactly these permissions" in said
    assert "ok        repository: acme/sample, default branch main" in said
    assert "ok        webhook: the App's delivers" in said
    assert "unknown   webhook address" in said, "without TLS"


def test_a_key_that_is_none_or_another_apps_is_told(site: Site) -> None:
    site.secret("github-app-key", "-----BEGIN nonsense")
    assert "github-app-key is no private key" in one(site.tried(APP), "App key")
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM).decode()
    site.secret("github-app-key", curve)
    assert "is no RSA key" in one(site.tried(APP), "App key")
    site.secret("github-app-key", rsa.generate_private_key(65537, 2048).private_bytes(*PEM).decode())
    assert "github-app-key is no key of App 4711" in one(site.tried(APP), "App")
    (site.secrets / "github-app-key").unlink()
    assert "cannot be read" in one(site.tried(APP), "App key")


def test_another_number_of_the_app_is_told(site: Site) -> None:
    assert "github-app-key is no key of App 1" in one(site.tried('access = "app"\napp_id = 1'), "App")


def test_an_app_that_is_not_installed_there_is_told_where_to_install(site: Site, github: GitHubDouble) -> None:
    github.forget("acme/another")
    github.set(hook=_hook(site.url))
    told = one(site.tried(APP), "installation")
    assert "install it on acme/sample: https://github.com/apps/mlc-ci/installations/new" in told


def test_another_installation_is_told(site: Site) -> None:
    told = one(site.tried(APP + "\ninstallation_id = 7"), "installation")
    assert "on this repository it is 815, in the settings 7" in told


@pytest.mark.parametrize("permission", ["statuses", "pull_requests", "packages", "contents"])
def test_each_missing_permission_is_told_with_what_it_is_for(site: Site, github: GitHubDouble, permission: str) -> None:
    github.set(granted={**GRANTED, permission: "read"})
    told = one(site.tried(APP), "permission")
    purpose = {
        "statuses": "statuses",
        "pull_requests": "the summary on pull requests",
        "packages": "the token of stage docker",
        "contents": "the token of stage release",
    }
    assert f"{permission}: write is needed ({purpose[permission]}), and it has read" in told
    assert "App's settings, Permissions & events" in told
    github.set(asked_for={permission: "write"})
    assert "the App asks for it already: accept its new permissions" in one(site.tried(APP), "permission")


def test_what_the_settings_do_not_use_need_not_be_granted(site: Site, github: GitHubDouble) -> None:
    github.set(granted={**GRANTED, "statuses": "read", "pull_requests": "read"})
    assert not problems(site.tried(APP + "\nstatuses = false\ncomment = false"))


def test_more_than_is_needed_is_no_problem_and_is_said(site: Site, github: GitHubDouble) -> None:
    github.set(granted={**GRANTED, "administration": "write"})
    found = site.tried(APP)
    assert not problems(found)
    assert "the installation may more than is needed: administration: write" in "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"url": "https://old.example.org/"}, "the App's goes to https://old.example.org/"),
        ({"secret": ""}, "put in what stands in secrets/github-webhook-secret"),
        ({"insecure_ssl": "1"}, "enable SSL verification"),
    ],
)
def test_each_fault_of_the_webhooks_form_is_told(
    site: Site, github: GitHubDouble, changes: dict[str, str], told: str
) -> None:
    github.set(hook=_hook(site.url, **changes))
    assert told in one(site.tried(APP), "webhook")


def test_an_event_that_is_not_delivered_is_told(site: Site, github: GitHubDouble) -> None:
    github.set(events=["push", "pull_request"])
    assert "the App's lacks events: issue_comment" in one(site.tried(APP), "webhook")


def test_an_app_that_delivers_no_dispatch_is_told_and_not_blamed(site: Site, github: GitHubDouble) -> None:
    said = "the App's does not deliver repository_dispatch"
    assert said not in "\n".join(map(str, site.tried(APP)))
    github.set(events=["push", "pull_request", "issue_comment"])
    found = site.tried(APP)
    assert not problems(found)
    assert said in "\n".join(map(str, found))


def test_the_webhooks_secret_must_be_there_and_long(site: Site) -> None:
    site.secret("github-webhook-secret", "short")
    assert "has only 5 characters" in one(site.tried(NONE), "webhook secret")
    site.secret("github-webhook-secret", WEBHOOK_SECRET, mode=0o644)
    assert "can be read by others" in one(site.tried(NONE), "webhook secret")
    assert not problems(site.tried(NONE + "\nwebhook = false"))


def test_an_address_that_github_cannot_reach_is_told(site: Site, page: Page) -> None:
    page.answers["/"] = (502, {}, {})
    assert "answers 502" in one(site.tried(NONE), "webhook address")
    site.url = "http://127.1:9/"
    assert "does not answer" in one(site.tried(NONE), "webhook address")
    for nowhere in ("", "http://127.0.0.1:8010/", "http://localhost/"):
        site.url = nowhere
        assert "GitHub cannot reach this master at" in one(site.tried(NONE), "webhook address")


def test_a_webhook_is_not_compared_with_an_address_that_nobody_gave(site: Site) -> None:
    site.url = ""
    one(site.tried(APP), "webhook address")


def test_github_that_does_not_answer_is_told(site: Site, github: GitHubDouble) -> None:
    github.fail("error", count=0)
    try:
        told = problems(site.tried(APP))
    finally:
        github.mend()
    assert len(told) == 1
    assert "GitHub answers 502" in told[0]
    assert "can this machine reach" in told[0]


def test_without_access_nothing_is_asked(site: Site, github: GitHubDouble) -> None:
    found = site.tried('access = "none"')
    assert not problems(found)
    assert not github.requests()


# -- a personal token

TOKENS = 'access = "token"\nwebhook = false'
REPOSITORY = {"full_name": "acme/sample", "default_branch": "main", "private": False, "permissions": {"push": True}}


@pytest.fixture
def holder(tmp_path: Path, page: Page) -> Site:
    """A site with a fine-grained token of somebody who may write."""
    site = Site(tmp_path / "site", page.url.rstrip("/"), page.url)
    site.secret("github-token", TOKEN)
    site.secret("github-webhook-secret", WEBHOOK_SECRET)
    page.answers["/repos/acme/sample"] = (200, REPOSITORY, {})
    return site


def test_a_fine_grained_token_is_told_what_it_must_have(holder: Site) -> None:
    found = holder.tried(TOKENS)
    assert not problems(found)
    said = "\n".join(map(str, found))
    assert "see that it has, for this repository alone: contents: write, metadata: read, packages: write," in said


@pytest.mark.parametrize(
    ("scopes", "private", "wrong"),
    [("repo", True, False), ("public_repo", False, False), ("public_repo", True, True), ("gist", False, True)],
)
def test_a_classic_token_is_judged_by_its_scopes(
    holder: Site, page: Page, scopes: str, private: bool, wrong: bool
) -> None:
    page.answers["/repos/acme/sample"] = (200, {**REPOSITORY, "private": private}, {"X-OAuth-Scopes": scopes})
    found = holder.tried(TOKENS)
    if wrong:
        assert "is needed" in one(found, "permissions")
    else:
        assert not problems(found)


@pytest.mark.parametrize(
    ("answer", "name", "told"),
    [
        ((401, {"message": "Bad credentials"}, {}), "repository", "put a new one in the secrets folder"),
        ((404, {"message": "Not Found"}, {}), "repository", "is [github] repository right"),
        ((200, {**REPOSITORY, "full_name": "acme/renamed"}, {}), "repository", 'formerly = ["acme/sample"]'),
        ((200, {**REPOSITORY, "archived": True}, {}), "repository", "it is archived"),
        ((200, {**REPOSITORY, "default_branch": "trunk"}, {}), "repository", 'project.default_branch = "trunk"'),
        ((200, {**REPOSITORY, "permissions": {"push": False}}, {}), "access", "the token's user may not write"),
    ],
)
def test_what_the_repository_answers_is_judged(holder: Site, page: Page, answer: Any, name: str, told: str) -> None:
    page.answers["/repos/acme/sample"] = answer
    assert told in one(holder.tried(TOKENS), name)


def test_the_repositorys_webhook_is_looked_at_where_it_may_be(holder: Site, page: Page) -> None:
    asked = 'access = "token"'
    assert "may not look at the repository's webhooks" in "\n".join(map(str, holder.tried(asked)))
    hook = {"active": True, "events": ["push", "pull_request", "issue_comment"], "config": _hook(page.url)}
    for hooks, told in (
        ([hook], ""),
        ([], "none of the repository's 0 goes to"),
        ([{**hook, "active": False}], "it is not active"),
        ([{**hook, "events": ["push"]}], "the repository's lacks events: issue_comment, pull_request"),
        ([{**hook, "config": _hook(page.url, secret="")}], "the repository's has no secret"),
    ):
        page.answers["/repos/acme/sample/hooks"] = (200, hooks, {})
        found = holder.tried(asked)
        if told:
            assert told in one(found, "webhook")
        else:
            assert not problems(found)


# -- the command


def test_the_command_ends_with_1_when_something_must_be_put_right(holder: Site) -> None:
    basedir = holder.folder / "master"
    (basedir / "settings.toml").write_text(holder.text(TOKENS))
    good = CliRunner().invoke(app, ["github", "check", str(holder.folder), "--json"])
    assert good.exit_code == 0, good.output
    assert {"name": "repository", "state": "ok", "message": "acme/sample, default branch main"} in json.loads(
        good.output
    )
    (holder.secrets / "github-token").unlink()
    bad = subprocess.run(
        [sys.executable, "-m", "master.cli", "github", "check", str(basedir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (bad.returncode, bad.stderr) == (1, "")
    assert bad.stdout.startswith("problem   repository: secret 'github-token' cannot be read")
    (basedir / "settings.toml").write_text(holder.text(TOKENS).partition("[github]")[0])
    assert CliRunner().invoke(app, ["github", "check", str(basedir)]).exit_code == 1
    none = CliRunner().invoke(app, ["github", "check", str(holder.secrets)])
    assert isinstance(none.exception, UserError)
    assert "is no master's folder" in str(none.exception)
