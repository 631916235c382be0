"""Files made for somebody else, in a folder that is theirs: never through a link that they may have put there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from master.site.owners import Owner


def folder(path: Path, owner: Owner | None) -> None:
    """Make a folder for its owner alone; one that is there stays as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if owner:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def write(path: Path, text: str, owner: Owner | None) -> None:
    """Put a new file, readable by its owner alone, in the place of whatever is there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        if owner:
            os.fchown(handle, owner.uid, owner.gid)
        file.write(text)
