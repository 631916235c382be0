"""Whether a worker's software fits the master's: the same major and minor version, or it is not used.

The steps call ``mlc-ci-worker`` with arguments that another version may not know, and a run that fails on that
would say nothing of the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from packaging.version import InvalidVersion, Version

#: worker info -> the distribution whose version here it must fit, and its name for the reader
_MUST_FIT = {"mlc_ci": ("mlc-ci", "mlc-ci"), "version": ("buildbot", "Buildbot")}


def ours() -> dict[str, str]:
    """The master's versions, by the name of the worker info that must fit."""
    found = {}
    for key, (distribution, _) in _MUST_FIT.items():
        try:
            found[key] = metadata.version(distribution)
        except metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found


def mismatch(worker: Mapping[str, object], master: Mapping[str, str]) -> str:
    """Why a worker with this info cannot be used by a master of these versions; empty when it can.

    A version that is not said, or is none, is not held against the worker: stock Buildbot workers say only their own.
    """
    said = []
    for key, (_, name) in _MUST_FIT.items():
        theirs, needed = _parsed(worker.get(key)), _parsed(master.get(key))
        if theirs and needed and (theirs.major, theirs.minor) != (needed.major, needed.minor):
            said.append(f"it has {name} {theirs}, the master {needed}")
    return "; ".join(said)


def _parsed(text: object) -> Version | None:
    try:
        return Version(str(text).strip())
    except InvalidVersion:
        return None
