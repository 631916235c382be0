"""Where the artifact process can be reached, and how long it keeps what: it writes ``artifacts.json`` into the
master's folder, steps read it, and so does who sweeps by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "artifacts.json"  #: ``{"pid": …, "port": …, "url": …, "policy": {"keep": …, "keep_of": {…}}}``


def announce(basedir: Path, *, port: int, url: str, policy: Mapping[str, Any] | None = None) -> None:
    """Tell; once the process answers."""
    fresh = basedir / f"{FILE}.new"
    fresh.write_text(json.dumps({"pid": os.getpid(), "port": port, "url": url, "policy": policy}))
    fresh.replace(basedir / FILE)


def url(basedir: Path) -> str:
    """What workers and browsers use, without a slash at its end; empty while no process was ever started."""
    return str(_read(basedir).get("url", ""))


def pid(basedir: Path) -> int:
    """The process that told; 0 while none did."""
    return int(_read(basedir).get("pid", 0))


def port(basedir: Path) -> int:
    """The port it listened on; 0 while none did."""
    return int(_read(basedir).get("port", 0))


def policy(basedir: Path) -> dict[str, Any] | None:
    """How long the process keeps artifacts (the fields of :class:`master.artifacts.retention.Policy`); ``None`` while
    none told."""
    found = _read(basedir).get("policy")
    return found if isinstance(found, dict) else None


def _read(basedir: Path) -> dict[str, Any]:
    try:
        found = json.loads((basedir / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
