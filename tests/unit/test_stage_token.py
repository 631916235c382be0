"""A stage's token in the environment of its commands, and git with it."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from settings_sample import read, usable

from master.settings_tokens import permissions_of, secret_of
from steps.command import Frame, StageEnvironment
from steps.token import StageToken

GITHUB = "[github]\nrepository = 'acme/sample'\n"
IMAGE = "[stages.image]\nuses = 'commands'\ncommands = ['x']\nwhen = ['push']\npermissions = {packages = 'write'}\n"
PLAIN = "[stages.plain]\nuses = 'commands'\ncommands = ['x']\n"
APP = "access = 'app'\napp_id = 7\n"


class Properties:
    """A build's, as far as an environment asks them."""

    def __init__(self, **values: Any) -> None:
        self.values, self.used = values, dict[str, str]()

    def getProperty(self, name: str) -> Any:
        return self.values.get(name)

    async def render(self, secret: Any) -> str:
        return f"token of {secret.secret_name}"

    def useSecret(self, value: str, name: str) -> None:
        self.used[value] = name


async def rendered(environment: StageEnvironment, properties: Properties) -> dict[str, str]:
    found = environment.getRenderingFor(properties)
    return dict(found) if isinstance(found, dict) else dict(await found)


def run(environment: StageEnvironment, properties: Properties) -> dict[str, str]:
    """Nothing here waits for anything, so that one step is all of it."""
    try:
        rendered(environment, properties).send(None)
    except StopIteration as done:
        return dict(done.value)
    raise AssertionError("it waits")


def environment(text: str, stage: str, **environ: str) -> StageEnvironment:
    settings = usable(read(text, environ=environ))
    return Frame.of(settings.stage(stage), settings).with_environment({"MORE": "1"}).environment


def test_a_name_says_what_a_token_may() -> None:
    may = {"packages": "write", "contents": "read"}
    assert permissions_of(secret_of(may)) == may
    assert secret_of({}) == ""
    assert permissions_of("deploy-key") is None


@pytest.mark.parametrize(
    ("access", "stage", "secret"),
    [
        (APP, "image", "GITHUB_TOKEN contents:read packages:write"),
        ("access = 'token'\n", "image", "GITHUB_TOKEN packages:write"),
        (APP, "plain", None),
        ("", "image", None),
    ],
)
def test_which_stage_gets_which_token(access: str, stage: str, secret: str | None) -> None:
    found = StageToken.of(usable(read(GITHUB + access + IMAGE + PLAIN)), stage)
    assert (found.secret if found else None) == secret


def test_only_a_trusted_run_has_it() -> None:
    of_stage = environment(GITHUB + APP + IMAGE, "image")
    assert (
        run(of_stage, Properties(trusted=True))["GITHUB_TOKEN"] == "token of GITHUB_TOKEN contents:read packages:write"
    )
    for untrusted in (False, None, "true"):
        assert "GITHUB_TOKEN" not in run(of_stage, Properties(trusted=untrusted))


def test_a_repository_elsewhere_gets_no_header() -> None:
    found = run(environment(GITHUB + APP + IMAGE, "image"), Properties(trusted=True))
    assert not [name for name in found if name.startswith("GIT_CONFIG")]


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A server that git asks, and the ``Authorization`` of each request."""
    found: list[str] = []

    class Hears(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.append(self.headers.get("Authorization", ""))
            self.send_error(404)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hears) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", found
        server.shutdown()


def test_git_sends_it_to_github_and_to_nobody_else(heard: tuple[str, list[str]]) -> None:
    address, found = heard
    text = GITHUB + APP + f"web = '{address}/'\n" + IMAGE
    text += (
        "[stages.image.environment]\nGIT_CONFIG_COUNT = '1'\nGIT_CONFIG_KEY_0 = 'user.name'\nGIT_CONFIG_VALUE_0 = 'x'\n"
    )
    properties = Properties(trusted=True)
    variables = run(environment(text, "image", MLC_CI_PROJECT__REPOSITORY=f"{address}/acme/sample.git"), properties)
    header = base64.b64encode(f"x-access-token:{variables['GITHUB_TOKEN']}".encode()).decode()
    assert properties.used == {header: "GITHUB_TOKEN contents:read packages:write"}, "it is struck out of logs as well"
    clean = {name: os.environ[name] for name in ("PATH",)} | {"no_proxy": "*", "GIT_CONFIG_GLOBAL": os.devnull}

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], env=clean | variables, capture_output=True, text=True, check=False)
        return done.stdout

    git("ls-remote", f"{address}/acme/sample.git")
    git("ls-remote", f"{address.replace('127.0.0.1', 'localhost')}/acme/sample.git")
    assert set(found[:1]) == {f"Basic {header}"}
    assert found[-1] == ""
    assert git("config", "user.name").strip() == "x", "what the settings configure stays"
