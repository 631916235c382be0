"""A GitHub of the tests' own: a process that remembers what it was told, enforces permissions and fails on order.

It has one repository and one App. What the test does with it out of band (people, commits, pull requests, faults)
goes through :class:`GitHubDouble`; what the master does goes to :attr:`GitHubDouble.url`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SERVER = Path(__file__).with_name("github_double_server.py")
GRANTED = {  #: what the App's installation may; every token has some of it
    "metadata": "read",
    "contents": "write",
    "statuses": "write",
    "pull_requests": "write",
    "packages": "write",
}


class GitHubDouble:
    """One process. ``folder``: for what is uploaded, and its log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.repository = ""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self.app_key = private.decode()  #: for the master's secret ``github-app-key``
        self.app_id, self.installation_id = 4711, 815
        self._public_key = public.decode()
        self.running: subprocess.Popen[str] | None = None
        self.url = ""
        self._client = httpx.Client(trust_env=False, timeout=30)

    # -- the process

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, str(SERVER)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert self.running.stdout
        port = self.running.stdout.readline().strip()
        assert port, (self.folder / "log").read_text()
        self.url = f"http://127.0.0.1:{port}"
        self.forget()

    def stop(self) -> None:
        self._client.close()
        if self.running:
            self.running.kill()
            self.running.wait()
            if self.running.stdout:
                self.running.stdout.close()
            self.running = None

    def forget(self, repository: str = "acme/sample", **options: Any) -> None:
        """Begin anew, with this repository; ``options``: attributes of its ``github_double_state.State``."""
        self.repository = repository
        owner, name = repository.split("/")
        configuration = {
            "owner": owner,
            "name": name,
            "folder": str(self.folder),
            "app_id": self.app_id,
            "app_slug": "mlc-ci",
            "app_key": self._public_key,
            "installation_id": self.installation_id,
            "granted": GRANTED,
        }
        self._control("POST", "forget", configuration | options)

    # -- what it knows

    def state(self) -> dict[str, Any]:
        """All of it, as ``github_double_state.State`` has it; keys of tables are text."""
        return self._control("GET", "state")

    def requests(self, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """What was asked, oldest first: ``method``, ``path``, ``query``, the token's ``permissions``, ``as``, ``body``,
        ``status``, ``fault``. With arguments: those of this method whose path ends so."""
        found = self._control("GET", "requests")
        return [one for one in found if method in ("", one["method"]) and one["path"].endswith(path)]

    def statuses(self, sha: str) -> dict[str, dict[str, Any]]:
        """The newest status of each context."""
        return {one["context"]: one for one in self.state()["statuses"] if one["sha"] == sha}

    def comments(self, number: int) -> list[str]:
        return [one["body"] for one in self.state()["comments"] if one["number"] == number]

    def releases(self) -> list[dict[str, Any]]:
        """Drafts included."""
        return list(self.state()["releases"].values())

    # -- what happens to it

    def set(self, **attributes: Any) -> None:
        """Attributes of its state, as they are from now on."""
        self._control("POST", "state", {"set": attributes})

    def set_assets(self, release: int, assets: list[dict[str, Any]]) -> None:
        releases = self.state()["releases"]
        self.set(releases={**releases, str(release): {**releases[str(release)], "assets": assets}})

    def person(self, login: str, permission: str) -> None:
        """``admin``, ``maintain``, ``write``, ``triage``, ``read`` or ``none``."""
        self._merge("people", {login: permission})

    def personal_token(self, text: str, permissions: Mapping[str, str], *, login: str = "maintainer") -> None:
        token = {"permissions": {"metadata": "read", **permissions}, "repositories": [self.repository.lower()]}
        self._merge("tokens", {text: token | {"login": login, "until": time.time() + 86400, "app": False}})

    def branch(self, name: str, sha: str) -> None:
        self._merge("refs", {f"heads/{name}": {"type": "commit", "sha": sha}})

    def tag(self, name: str, sha: str, *, annotated: str = "") -> None:
        """``annotated``: the SHA of the tag's own object."""
        if annotated:
            self._merge("tag_objects", {annotated: {"tag": name, "object": {"type": "commit", "sha": sha}}})
        pointed = {"type": "tag", "sha": annotated} if annotated else {"type": "commit", "sha": sha}
        self._merge("refs", {f"tags/{name}": pointed})

    def pull(
        self,
        number: int,
        head: str,
        *,
        author: str = "stranger",
        association: str = "NONE",
        fork: bool = True,
        files: list[str] | None = None,
        state: str = "open",
        base_sha: str = "0" * 40,
        updated_at: str = "",
    ) -> None:
        """A pull request, as it is from now on."""
        pull = {"number": number, "head": head, "author": author, "association": association, "fork": fork}
        pull |= {"files": files or [], "state": state, "base": "main", "base_sha": base_sha, "updated_at": updated_at}
        self._merge("pulls", {str(number): pull | {"branch": "topic", "title": f"pull request {number}"}})

    def fail(
        self,
        kind: str,
        match: str = "",
        *,
        count: int = 1,
        skip: int = 0,
        seconds: float = 0,
        status: int = 502,
        retry_after: float | None = None,
        acted: bool = False,
    ) -> None:
        """A fault for the next requests: see ``github_double_faults.Faults``.

        Args:
            kind: ``error``, ``hang`` (until :meth:`mend`), ``cut``, ``limit`` (429), ``secondary`` (403) or ``primary``
                (403 with ``x-ratelimit-reset``; wants ``retry_after``), or ``half`` (an upload that leaves a starter).
            match: pattern of ``METHOD PATH``; empty: everything.
            count: so many requests; 0: all.
            skip: after so many that match.
            seconds: 0: until :meth:`mend`.
            acted: GitHub does what was asked; only the answer is not what it should be.
        """
        until = time.time() + seconds if seconds else 0
        order = {"kind": kind, "match": match, "count": count, "skip": skip, "until": until, "status": status}
        self._control("POST", "faults", order | {"retry_after": retry_after, "acted": acted})

    def mend(self) -> None:
        """No faults any more."""
        self._control("DELETE", "faults")

    def _merge(self, table: str, entries: Mapping[str, Any]) -> None:
        self._control("POST", "state", {"merge": {table: entries}})

    def _control(self, method: str, what: str, body: Any = None) -> Any:
        answer = self._client.request(method, f"{self.url}/_control/{what}", json=body)
        answer.raise_for_status()
        return answer.json()
