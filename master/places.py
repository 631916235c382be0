"""Where the things of a master are: names of files and folders below its own folder."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

SETTINGS = "settings.toml"
SECRETS = "secrets"
PORTS = "ports.json"  #: written by the running master: see :mod:`master.announce`
ADMIN = "admin"  #: the page's one user
ADMIN_PASSWORD = "admin-password"  # noqa: S105 (the name of the secret that holds it)


def password_name(worker: str) -> str:
    """The secret that holds a worker's password."""
    return f"worker-{worker}"


def site_id(basedir: Path) -> str:
    """What tells this master from any other, in all its lives: for what it starts outside of its own folder."""
    file = basedir / "site-id"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        made = secrets.token_hex(4)
        file.write_text(f"{made}\n")
        return made


@dataclass(frozen=True, kw_only=True)
class Places:
    """One master's folder, and the address of its page."""

    basedir: Path
    url: str

    @property
    def artifacts(self) -> Path:
        """Below it builds upload."""
        return self.basedir / "artifacts"
