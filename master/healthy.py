"""Whether a process of a master that runs on this machine (or in this container) does its work: it is asked."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx

from master import tls
from master.artifacts import announced
from master.errors import UserError
from master.places import PORTS, SETTINGS
from master.settings import Settings, load

_TIMEOUT_S = 10.0
_LOOPBACK = "127.0.0.1"
_WILDCARDS = ("0.0.0.0", "::", "localhost")  # noqa: S104 - compared with, not listened on


class Unwell(UserError):
    """The process is not there, or says that it cannot work."""

    exit_code = 1


def master(basedir: Path) -> str:
    """What a master says of itself; its page and its database have answered.

    Raises:
        Unwell: they have not.
    """
    try:
        port = int(json.loads((basedir / PORTS).read_text())["web"])
    except (OSError, ValueError, KeyError) as error:
        raise Unwell(f"the master in {basedir} has opened no ports: {error}", "its log says why") from None
    host = _reachable(load(basedir / SETTINGS).master.web_listen)
    answer = _ask(f"http://{host}:{port}/plugins/mlc_ci/api/runs?limit=1", None)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.FORBIDDEN):  # forbidden: its runs are not for everybody
        raise Unwell(f"the master answers with {answer.status_code}", "its log says why")
    return f"the master answers on port {port}"


def artifacts(basedir: Path) -> str:
    """The same of the artifact process; database and store have answered, and there is room in it.

    Raises:
        Unwell: they have not, or there is none.
    """
    settings = load(basedir / SETTINGS)
    port = announced.port(basedir)
    if not port:
        raise Unwell(f"no artifact process has ever run in {basedir}", "its log says why")
    scheme = "https" if settings.artifacts.tls else "http"
    host = _reachable(settings.artifacts.listen)
    answer = _ask(f"{scheme}://{host}:{port}/health", _trust(settings, basedir) if settings.artifacts.tls else None)
    if answer.status_code == httpx.codes.INSUFFICIENT_STORAGE:
        raise Unwell("the artifact process has no room left", "see [artifacts] reserve, quota and keep")
    if answer.status_code != httpx.codes.OK:
        raise Unwell(f"the artifact process answers with {answer.status_code}", "its log says why")
    return f"the artifact process answers on port {port}"


def _reachable(listen: str) -> str:
    host = _LOOPBACK if listen in _WILDCARDS else listen
    return f"[{host}]" if ":" in host else host


def _trust(settings: Settings, basedir: Path) -> ssl.SSLContext:
    """Its certificate is verified; its names are those that others call it by."""
    given = settings.master.worker_certificate
    ca = settings.master.worker_ca if given else f"{tls.FOLDER}/{tls.AUTHORITY}"
    context = ssl.create_default_context(cafile=basedir / ca if ca else None)
    context.check_hostname = False
    return context


def _ask(url: str, trust: ssl.SSLContext | None) -> httpx.Response:
    try:
        with httpx.Client(timeout=_TIMEOUT_S, verify=trust or True, trust_env=False) as client:
            return client.get(url)
    except httpx.HTTPError as error:
        raise Unwell(f"{url} does not answer: {error}", "its log says why") from None
