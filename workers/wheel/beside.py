"""The manifest that lies beside a wheel: what it is called, and whether it speaks of this very wheel.

Whoever meets the two together asks here: the gate on the worker, and the release.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.wheel.checks import Finding, shown

_LARGEST = 16 << 20  # bytes


class InvalidManifest(ValueError):
    """It cannot be read; the message says why."""


def manifest_name(wheel: str) -> str:
    """``x-1-py3-none-any.whl`` -> ``x-1-py3-none-any.manifest.json``."""
    return f"{wheel.removesuffix('.whl')}.manifest.json"


def read_manifest(path: Path) -> dict[str, Any]:
    """The object in a manifest's file. Raises :class:`InvalidManifest`, or FileNotFoundError where there is none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidManifest(f"it has {path.stat().st_size} bytes, and the most is {_LARGEST}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"it cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InvalidManifest("it holds no JSON object")
    return found


def disagreements(manifest: Mapping[str, Any], wheel: Mapping[str, object]) -> list[str]:
    """Where a manifest says something else than what is known of the wheel (by the manifest's own keys)."""
    return [
        f"its {key} is {shown(manifest.get(key, 'missing'))}; the wheel's is {shown(value)}"
        for key, value in wheel.items()
        if manifest.get(key) != value
    ]


def manifest_findings(wheel: Path, known: Mapping[str, object]) -> Iterator[Finding]:
    """The manifest beside ``wheel``, of which ``known`` was read."""
    name = manifest_name(wheel.name)
    try:
        said = disagreements(read_manifest(wheel.with_name(name)), known)
    except FileNotFoundError:
        said = ["there is none beside the wheel"]
    except InvalidManifest as error:
        said = [shown(error)]
    for reason in said:
        yield Finding(check="manifest", file=shown(name), reason=reason)
