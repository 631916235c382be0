"""The secrets folder of a master: a file for each, readable by its owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from buildbot.secrets.providers.base import SecretProviderBase

from master.settings import read_secret


def ensure(folder: Path, name: str) -> None:
    """Make a secret that is not there yet: whole or not at all, and one for all who try at once."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if (folder / name).exists():
        return
    handle, draft = tempfile.mkstemp(prefix=f".{name}-", dir=folder)  # readable by its owner alone
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, folder / name)
    finally:
        Path(draft).unlink()


class SecretFiles(SecretProviderBase):
    """Buildbot's provider over the folder. Reads a file when its secret is asked for: Buildbot's own reads all of them
    once, and knows nothing of what was put there since."""

    name = "SecretFiles"

    def checkConfig(self, folder: str) -> None:
        """Nothing to check before a secret is asked for."""

    def reconfigService(self, folder: str) -> None:
        self.folder = Path(folder)

    def get(self, entry: str) -> str:
        """One secret. Raises :class:`master.errors.SecretUnreadable`."""
        return read_secret(self.folder, entry)
