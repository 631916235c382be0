"""Where the things of a master are: names of files and folders below its own folder."""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True)
class Places:
    """One master's folder, and the address of its page."""

    basedir: Path
    url: str

    @property
    def artifacts(self) -> Path:
        """Below it builds upload."""
        return self.basedir / "artifacts"
