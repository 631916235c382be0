"""Accepting what an attempt left: its uploaded files, hashed where they lie.

A build uploads below a folder of its own, so nothing ever moves: files become visible when the attempt's
outcome is accepted, in the same transaction (:func:`master.database.store.accept`), and what no accepted
attempt names is not listed and may be swept.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from master.database.records import Artifact

_BLOCK = 1 << 20


def build_folder(run_id: int, stage: str, variant: str, number: int, build_id: int) -> str:
    """Where a build's files lie below the artifact folder."""
    return f"{run_id}/{stage}/{variant or 'default'}/{number}/{build_id}"


def collect(root: Path, folder: str) -> list[Artifact]:
    """The files of one build, with size and SHA-256; a name that is no text cannot be listed and is left out.

    Blocking: run it in a thread.
    """
    found = []
    base = root / folder
    for file in sorted(path for path in base.rglob("*") if _listable(path)):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        found.append(
            Artifact(
                name=file.relative_to(base).as_posix(),
                path=file.relative_to(root).as_posix(),
                size=file.stat().st_size,
                sha256=digest.hexdigest(),
            )
        )
    return found


def _listable(path: Path) -> bool:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return False
    return path.is_file() and not path.is_symlink()
