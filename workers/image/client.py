"""Docker's client with a folder of settings of its own: what the worker's user is logged in to, a build is not.

A registry's password is in no file and on no command line. The client finds it through a *credential helper*, a program
that docker asks: ours prints a variable of its environment. What a killed build leaves behind knows no secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from workers.errors import InfrastructureError
from workers.image.failures import judged

STATE = Path(
    "../image"
)  #: beside the checkout: all that one stage's builds leave on a worker, but for the image itself
LABEL = "mlc-ci.workspace"  #: of our containers: whose they are
_ANSWER = "MLC_CI_REGISTRY_ANSWER"
_HELPER = "mlc-ci"
_SECRETS = ("auths", "credsStore", "credHelpers")
_PATIENCE = 120.0  # seconds for what is answered at once


@dataclass(frozen=True, kw_only=True)
class Login:
    """With which a registry lets us in."""

    registry: str
    user: str
    password: str

    def answer(self) -> str:
        return json.dumps({"ServerURL": self.registry, "Username": self.user, "Secret": self.password})


class Docker:
    """The client, for one command. ``environment`` is what it is called with."""

    def __init__(self, environment: Mapping[str, str], registry: str = "") -> None:
        self.environment = dict(environment)
        self.registry = registry  # whose refusals are the login's

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Its output and its errors come in one stream."""
        return subprocess.Popen(
            ["docker", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Something that is done at once, however it ends. Raises :class:`InfrastructureError` if it is not."""
        try:
            return subprocess.run(
                ["docker", *arguments],
                env=self.environment,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
            )
        except FileNotFoundError:
            raise InfrastructureError("this worker has no docker") from None
        except subprocess.TimeoutExpired:
            raise InfrastructureError(
                f"docker {arguments[0]} did not answer within {_PATIENCE:g} seconds: is its daemon well?"
            ) from None

    def ask(self, *arguments: str) -> str:
        """What it prints. Raises :class:`workers.errors.ToolError` when it fails."""
        done = self.run(*arguments)
        if done.returncode:
            raise judged((done.stdout + done.stderr).splitlines(), self.registry)
        return done.stdout


@contextlib.contextmanager
def client(login: Login | None = None, *, without: Sequence[str] = ()) -> Iterator[Docker]:
    """The client with a private folder of settings: proxies, plugins and builders as the worker's user has them, but
    no login except the one given. ``without``: variables that it does not see."""
    theirs = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    STATE.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="client-", dir=STATE)).resolve()
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"DOCKER_CONFIG": str(folder)}
    environment.setdefault("BUILDX_CONFIG", str(theirs / "buildx"))
    settings = {name: value for name, value in _settings(theirs).items() if name not in _SECRETS}
    try:
        for part in ("cli-plugins", "contexts"):
            if (theirs / part).is_dir():
                (folder / part).symlink_to((theirs / part).resolve())
        if login:
            helper = folder / f"docker-credential-{_HELPER}"
            helper.write_text(f'#!/bin/sh\n[ "$1" = get ] && printf %s "${_ANSWER}"\n')
            helper.chmod(0o700)
            settings["credHelpers"] = {login.registry: _HELPER}
            environment |= {
                "PATH": f"{folder}{os.pathsep}{environment.get('PATH', os.defpath)}",
                _ANSWER: login.answer(),
            }
        (folder / "config.json").write_text(json.dumps(settings))
        yield Docker(environment, login.registry if login else "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def workspace() -> str:
    """This checkout's, told apart from every other one that uses the same engine."""
    return sha256(os.fsencode(Path.cwd())).hexdigest()[:16]


def local_name(target: str) -> str:
    """What the image of a target is called on this engine until it is published."""
    return f"mlc-ci.local/{workspace()}:{target or 'image'}"


def clean(docker: Docker) -> None:
    """Removes what an earlier build has left, however it ended: containers, images, files."""
    mine = f"label={LABEL}={workspace()}"
    if left := docker.ask("container", "ls", "--all", "--quiet", f"--filter={mine}").split():
        docker.ask("container", "rm", "--force", "--volumes", *left)
    # by name: another workspace's build of the same content is the same image, and an id would take its name too
    named = ["image", "ls", "--format={{.Repository}}:{{.Tag}}", f"mlc-ci.local/{workspace()}"]
    if images := [name for name in docker.ask(*named).split() if not name.endswith(":<none>")]:
        docker.ask("image", "rm", "--force", *images)
