"""A wheel as the rules see it: what was read, and what it says it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from packaging.metadata import Metadata

from workers.wheel.contents import Contents
from workers.wheel.identity import Identity

_LIBRARY = re.compile(r".+\.(so(\.\d+)*|dll|pyd)", re.IGNORECASE)
_INSTALLED = re.compile(r"[^/]+\.data/(purelib|platlib)/")


@dataclass(frozen=True, kw_only=True)
class Subject:
    identity: Identity
    contents: Contents
    dist_info: str = ""  #: the folder; empty where there is not exactly one
    metadata: Metadata | None = None

    @property
    def installed(self) -> dict[str, str]:
        """Path below site-packages -> member; ``.data/scripts`` and the like are installed elsewhere."""
        return {
            path: name
            for name in self.contents.members
            if ".data/" not in (path := _INSTALLED.sub("", name, count=1)).partition("/")[0] + "/"
        }


def base(path: str) -> str:
    return path.rpartition("/")[2]


def is_library(path: str) -> bool:
    """Whether a file's name says that it is a shared library."""
    return _LIBRARY.fullmatch(base(path)) is not None


def matches(name: str, patterns: Iterable[str], *, fold: bool = False) -> bool:
    if fold:
        return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
    return any(fnmatchcase(name, pattern) for pattern in patterns)
