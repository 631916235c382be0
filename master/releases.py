"""Publishing a release: what it holds, and the folder it goes to.

A release is built up out of sight and becomes public by one rename, so that whoever looks sees all of it or
none, and a publication that was interrupted anywhere is completed by publishing again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NOTES = "RELEASE_NOTES.md"
SUMS = "SHA256SUMS"
MANIFEST = "release.json"
_BLOCK = 1 << 20


class ReleaseRefused(Exception):
    """A release that must not be made; the message says why."""


class ReleaseStopped(Exception):
    """Publishing was stopped before anything was public."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the release: where it lies, and what it must be."""

    name: str
    artifact: str  #: the accepted artifact's path in the store
    source: Path
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """Everything a release publishes."""

    tag: str
    commit: str
    notes: str
    assets: tuple[Asset, ...]

    @property
    def sums(self) -> str:
        """``SHA256SUMS``, as ``sha256sum --check`` reads it."""
        return "".join(f"{asset.sha256}  {asset.name}\n" for asset in self.assets)

    @property
    def manifest(self) -> Mapping[str, object]:
        files = {asset.name: {"size": asset.size, "sha256": asset.sha256} for asset in self.assets}
        return {"tag": self.tag, "commit": self.commit, "assets": files}


class ReleaseTarget(Protocol):
    """Where releases go."""

    def publish(self, release: Release, stop: threading.Event) -> str:
        """Publish, or complete an interrupted publication; a line that says where it is.

        Raises:
            ReleaseRefused: another release of this tag is public, or an asset is not what it should be.
            ReleaseStopped: ``stop`` was set.
        """


def check(release: Release) -> None:
    """Read every asset.

    Raises:
        ReleaseRefused: one is not what was accepted.
    """
    for asset in release.assets:
        with asset.source.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            _same(asset, source.tell(), digest)


def _same(asset: Asset, size: int, digest: str) -> None:
    if (size, digest) != (asset.size, asset.sha256):
        raise ReleaseRefused(
            f"{asset.name} is not what was accepted: {size} bytes, sha256 {digest}; "
            f"expected {asset.size} bytes, sha256 {asset.sha256}"
        )


class FolderTarget:
    """Releases as folders: ``FOLDER/v1.2.3/`` with the assets, checksums, notes and a manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, release: Release, stop: threading.Event) -> str:
        if release.tag in ("", ".", "..") or "/" in release.tag or release.tag.startswith("."):
            raise ReleaseRefused(f"{release.tag!r} is no name for a release's folder")
        public = self.folder / release.tag
        if public.exists():
            return self._same_or_refuse(public, release)
        draft = self.folder / f".draft-{release.tag}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            for asset in release.assets:
                if stop.is_set():
                    raise ReleaseStopped
                self.add(draft, asset)
        except (ReleaseRefused, ReleaseStopped):
            shutil.rmtree(draft)
            raise
        _write(draft / SUMS, release.sums)
        _write(draft / NOTES, release.notes)
        _write(draft / MANIFEST, json.dumps(release.manifest, indent=2) + "\n")
        self.reveal(draft, public)
        return f"published {len(release.assets)} assets in {public}"

    def add(self, draft: Path, asset: Asset) -> None:
        """Copy one asset into the draft, verified on the way."""
        digest = hashlib.sha256()
        size = 0
        with asset.source.open("rb") as source, (draft / asset.name).open("xb") as copy:
            while block := source.read(_BLOCK):
                digest.update(block)
                size += len(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        _same(asset, size, digest.hexdigest())

    def reveal(self, draft: Path, public: Path) -> None:
        """Make the draft public."""
        draft.rename(public)

    def _same_or_refuse(self, public: Path, release: Release) -> str:
        try:
            found = json.loads((public / MANIFEST).read_text())
        except (OSError, ValueError):
            raise ReleaseRefused(f"{public} exists and was not made by this master: move it away first") from None
        if found != json.loads(json.dumps(release.manifest)):
            raise ReleaseRefused(
                f"{release.tag} is public already, made from commit {found.get('commit')}: a release is never replaced"
            )
        return f"{public} was published before"


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
