"""A wheel's manifest as the release reads it: what it says, and whether it fits the wheel and the run. Pure but for
the one read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, ValidationError

from master.database.records import Artifact
from workers.wheel.beside import InvalidManifest, disagreements, read_manifest

_OPTION = re.compile(r'^set\((\w+) "?(.*?)"?\)$', re.MULTILINE)
#: Libraries that come from neither the wheel nor its requirements: what its user's system must bring along.
_OF_THE_SYSTEM = re.compile(r"(lib)?(vulkan|cu|nv|msvcp|vcruntime|concrt|vcomp)", re.IGNORECASE)


class WheelManifest(BaseModel):
    """What ``mlc-ci-worker wheel-manifest`` wrote; keys that a release does not read are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    file: str
    version: str
    size: int
    sha256: str
    commit: str
    requires_dist: list[str] = []
    requires_python: str | None = None
    submodules: dict[str, str] = {}
    modified: list[str] = []
    config_cmake: str | None = None
    environment: dict[str, str | None] = {}
    tvm: dict[str, str] = {}
    tools: dict[str, str | None] = {}
    libraries: dict[str, list[str]] = {}
    highest: dict[str, str] = {}

    @property
    def options(self) -> Mapping[str, str]:
        """What ``config.cmake`` set."""
        return dict(_OPTION.findall(self.config_cmake or ""))

    @property
    def installed(self) -> Mapping[str, str]:
        """The TVM packages in the environment that it was installed into."""
        return {name: version for name, version in self.environment.items() if version}

    @property
    def system_libraries(self) -> Sequence[str]:
        needed = {library for libraries in self.libraries.values() for library in libraries}
        return sorted(library for library in needed if _OF_THE_SYSTEM.match(library))


def read(file: Path) -> WheelManifest:
    """Blocking. Raises :class:`InvalidManifest`."""
    try:
        return WheelManifest.model_validate(read_manifest(file))
    except FileNotFoundError:
        raise InvalidManifest("it is gone from the artifact folder") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidManifest(f"its {where} cannot be read: {first['msg']}") from None


def problems(manifest: WheelManifest, wheel: Artifact, *, tag: str, commit: str) -> list[str]:
    """Why this manifest cannot go out with this wheel for this tag; nothing when it can."""
    known = {"file": wheel.name, "size": wheel.size, "sha256": wheel.sha256}
    found = disagreements(manifest.model_dump(), known)
    if manifest.commit != commit:
        found.append(f"its commit is {manifest.commit}; the run's is {commit}")
    try:
        wanted, version = Version(tag), Version(manifest.version)
    except InvalidVersion as error:
        return [*found, str(error)]
    if Version(version.public) != wanted:
        found.append(f"its version is {version}; the tag's is {wanted}")
    return found
