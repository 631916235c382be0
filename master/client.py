"""The master's page, for programs: what ``mlc-ci run``, ``runs``, ``show``, ``retry`` and others talk to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from master.errors import UserError
from master.places import ADMIN, ADMIN_PASSWORD, PORTS, SECRETS

_TIMEOUT_S = 60.0
_API = "plugins/mlc_ci/api/"
_UNANSWERED = (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError)  #: the master was reached


class MasterSaidNo(UserError):
    """The master refused, or could not be reached."""

    exit_code = 6


class NotAllowed(MasterSaidNo):
    """The master refused it to this user."""


class Client:
    """A running master.

    Args:
        url: of its page.
        password: of the user ``admin``; without it, only reading works.
    """

    def __init__(self, url: str, password: str = "") -> None:
        self.url = url.rstrip("/") + "/"
        self._password = password
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S)
        self._logged_in = False

    def runs(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        found: list[dict[str, Any]] = self._get(f"{_API}runs?limit={limit}")["runs"]
        return found

    def trouble(self) -> str:
        """Why no event may be coming in just now; empty when all is well."""
        return str(self._get(f"{_API}runs?limit=1")["trouble"])

    def run(self, run_id: int) -> dict[str, Any]:
        """One run, with all its attempts."""
        found: dict[str, Any] = self._get(f"{_API}runs/{run_id}")
        return found

    def recipe(self, run_id: int, stage: str, variant: str | None = None) -> dict[str, Any]:
        """What a stage of a run does (:class:`master.recipe.Recipe`); without a variant, the only one that it has."""
        asked = "" if variant is None else f"?variant={quote(variant, safe='')}"
        found: dict[str, Any] = self._get(f"{_API}runs/{run_id}/stages/{quote(stage, safe='')}/recipe{asked}")
        return found

    def fetch(self, artifact: Mapping[str, Any], target: Path) -> None:
        """One artifact of a run (as the run tells it) into a file, which then has the hash that it should."""
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", _API + artifact["link"], follow_redirects=True) as answer:
                if not answer.is_success:
                    raise MasterSaidNo(f"{artifact['name']} is not to be had: status {answer.status_code}")
                with target.open("wb") as file:
                    for block in answer.iter_bytes():
                        digest.update(block)
                        file.write(block)
        except (httpx.HTTPError, OSError) as error:
            raise MasterSaidNo(f"{artifact['name']} was not fetched: {error}") from None
        if digest.hexdigest() != artifact["sha256"]:
            target.unlink()
            raise MasterSaidNo(f"{artifact['name']} arrived with another hash than the run tells")

    def connected_workers(self) -> list[str]:
        """Names of the workers that are attached just now."""
        workers = self._get("api/v2/workers")["workers"]
        return sorted(worker["name"] for worker in workers if worker["connected_to"])

    def fleet(self) -> dict[str, Any]:
        """``workers``: what the host of each has, and who holds which GPU; ``queue``: what waits for one."""
        found: dict[str, Any] = self._get(f"{_API}workers")
        return found

    def dispatch(self, **fields: Any) -> Any:
        """Create a manual run; fields as in the force form (ref, stages, threads, publish, reason)."""
        self._log_in()
        call = {"jsonrpc": "2.0", "id": 1, "method": "force", "params": fields}
        answer = self._request("POST", "api/v2/forceschedulers/run", json=call)
        return answer["result"]

    def approve(self, run_id: int, head: str) -> None:
        """Let a held run go on, for this commit."""
        self._log_in()
        self._request("POST", f"{_API}runs/{run_id}/approve", json={"head": head})

    def cancel(self, run_id: int) -> None:
        """End a run."""
        self._log_in()
        self._request("POST", f"{_API}runs/{run_id}/cancel", json={})

    def repeat(self, run_id: int, stage: str = "") -> Any:
        """Run again what did not end well, or one stage."""
        self._log_in()
        return self._request("POST", f"{_API}runs/{run_id}/repeat", json={"stage": stage})

    def releases(self) -> list[dict[str, Any]]:
        """What was released, newest first."""
        found: list[dict[str, Any]] = self._get(f"{_API}releases")["releases"]
        return found

    def yank(self, tag: str, reason: str | None) -> None:
        """Have installers pass a release by; without a reason, take that back."""
        self._log_in()
        order, body = ("unyank", {}) if reason is None else ("yank", {"reason": reason})
        self._request("POST", f"{_API}releases/{quote(tag, safe='')}/{order}", json=body)

    def _log_in(self) -> None:
        if self._logged_in:
            return
        if not self._password:
            raise MasterSaidNo("this needs the administrator's password", "give it with --password-file FILE")
        answer = self._send("GET", "auth/login", auth=(ADMIN, self._password))
        if answer.status_code not in (200, 302):
            raise MasterSaidNo(f"{self.url} does not accept the password of {ADMIN}", "see --password-file")
        self._logged_in = True

    def _get(self, path: str) -> Any:
        try:
            return self._request("GET", path)
        except NotAllowed:  # a master that hides its runs from strangers
            if self._logged_in or not self._password:
                raise
            self._log_in()
            return self._request("GET", path)

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._send(method, path, **arguments)
        try:
            data = answer.json()
        except json.JSONDecodeError:
            raise MasterSaidNo(
                f"{self.url}{path} answered {answer.status_code} and no JSON", "is this a master?"
            ) from None
        if answer.is_success and "error" not in data:
            return data
        said = _said(data.get("error", f"status {answer.status_code}"))
        if answer.status_code == httpx.codes.FORBIDDEN:
            raise NotAllowed(said, "" if self._password else "give the administrator's password with --password-file")
        raise MasterSaidNo(said)

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Origin": self.url.rstrip("/"), "Referer": self.url}
        try:
            return self._http.request(method, path, headers=headers, **arguments)
        except httpx.HTTPError as error:
            if method != "GET" and isinstance(error, _UNANSWERED):
                raise MasterSaidNo(
                    f"{self.url} has not said whether it took the order ({error}): it may have",
                    "look at mlc-ci runs before you give it again",
                ) from None
            raise MasterSaidNo(f"{self.url} cannot be reached: {error}", "is the master running?") from None


def _said(error: Any) -> str:
    message = error.get("message", error) if isinstance(error, Mapping) else error
    if isinstance(message, Mapping):  # the force form: one message for each field
        return "; ".join(f"{field}: {text}" for field, text in message.items())
    return str(message)


def of_site(folder: Path) -> Client:
    """The master that ``mlc-ci up`` runs in this folder on this machine.

    Raises:
        MasterSaidNo: none is running there, or its files may not be read.
    """
    basedir = folder / "master"
    try:
        ports = json.loads((basedir / PORTS).read_text())
        password = (basedir / SECRETS / ADMIN_PASSWORD).read_text().strip()
    except (OSError, ValueError) as error:
        raise MasterSaidNo(
            f"no running master is found in {folder}: {error}", "start one with ci/up, or give --master URL"
        ) from None
    return Client(f"http://127.0.0.1:{ports['web']}/", password)


def default_site() -> Path:
    """Where ``mlc-ci up`` keeps what it runs: ``$MLC_CI_SITE``, else by who calls."""
    if given := os.environ.get("MLC_CI_SITE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/mlc-ci")
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "mlc-ci"
