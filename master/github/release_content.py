"""What is on a release's page on GitHub: its files, its notes, and whether it counts as the latest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from master.releases import MANIFEST, NOTES, SUMS, Release

_LONGEST_BODY = 125_000  #: characters, GitHub's limit


@dataclass(frozen=True, kw_only=True)
class File:
    name: str
    content: Path | bytes
    size: int
    sha256: str


def files_of(release: Release) -> list[File]:
    """Everything that goes up: assets, checksums and manifest, as in a folder; notes where they are cut."""
    files = [File(name=one.name, content=one.source, size=one.size, sha256=one.sha256) for one in release.assets]
    texts = {SUMS: release.sums, MANIFEST: json.dumps(release.manifest, indent=2) + "\n"}
    if len(release.notes) > _LONGEST_BODY:
        texts[NOTES] = release.notes
    for name, text in texts.items():
        raw = text.encode()
        files.append(File(name=name, content=raw, size=len(raw), sha256=hashlib.sha256(raw).hexdigest()))
    return files


def body_of(release: Release) -> str:
    if len(release.notes) <= _LONGEST_BODY:
        return release.notes
    rest = f"\n\n… the notes go on in {NOTES}, among the files below.\n"
    return release.notes[: _LONGEST_BODY - len(rest)] + rest


def _version(tag: str) -> Version | None:
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def is_prerelease(tag: str) -> bool:
    version = _version(tag)
    return version is not None and version.is_prerelease


def make_latest(tag: str, public: Iterable[Mapping[str, Any]]) -> str:
    """``make_latest``: nothing that is older than what is public, and no prerelease, is shown as the latest."""
    version = _version(tag)
    others = [_version(one["tag_name"]) for one in public if not one["prerelease"]]
    older = version is not None and any(other is not None and other > version for other in others)
    return "false" if is_prerelease(tag) or older else "legacy"
