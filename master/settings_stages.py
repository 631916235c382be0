"""A stage as its settings describe it, and what each ``uses`` brings along when the settings do not say otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from master.pipeline import EventKind, NoWorkerPolicy, Requires
from master.settings_types import (
    Count,
    Environment,
    Names,
    Number,
    PositiveDuration,
    SecretNames,
    Switch,
    Table,
    Texts,
    refused,
    validate_cmake_value,
    validate_command,
)

Uses = Literal["test", "docker", "build-linux", "build-windows", "release", "summary", "commands"]
Permission = Literal["read", "write"]
MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a stage is unless its settings say otherwise, and which sub-tables and lists its steps read."""

    reads: frozenset[str] = frozenset()
    must_have: frozenset[str] = frozenset()
    os: Literal["linux", "windows"] | None = None
    tools: frozenset[str] = frozenset()
    local: bool = False
    when: frozenset[EventKind] = frozenset(EventKind)
    continue_on_error: bool = False
    always: bool = False
    publishes: bool = False
    timeout: float = 2 * HOUR


#: Timeouts are twice the longest run that the pipeline's document names for the stage.
USES: Mapping[str, Use] = {
    "test": Use(
        reads=frozenset({"prebuilt", "pytest"}),
        os="linux",
        tools=frozenset({"python"}),
        continue_on_error=True,
        timeout=20 * MINUTE,
    ),
    "docker": Use(
        os="linux",
        tools=frozenset({"docker"}),
        when=frozenset({EventKind.PUSH, EventKind.TAG}),
        publishes=True,
        timeout=40 * MINUTE,
    ),
    "build-linux": Use(
        reads=frozenset({"wheel"}),
        must_have=frozenset({"wheel"}),
        os="linux",
        tools=frozenset({"python", "compiler", "cmake", "cargo", "vulkan-sdk"}),
        timeout=70 * MINUTE,
    ),
    "build-windows": Use(os="windows", tools=frozenset({"msvc", "conda"}), timeout=2 * HOUR),
    "release": Use(
        reads=frozenset({"target"}),
        os="linux",
        when=frozenset({EventKind.TAG}),
        publishes=True,
        timeout=10 * MINUTE,
    ),
    "summary": Use(local=True, always=True, timeout=2 * MINUTE),
    "commands": Use(reads=frozenset({"commands", "artifacts"}), must_have=frozenset({"commands"})),
}

#: The parts of a stage that only some ``uses`` read.
PARTS = ("prebuilt", "pytest", "wheel", "target", "commands", "artifacts")

CMakeOptions = Mapping[str, Annotated[str, BeforeValidator(validate_cmake_value)]]
Command = Annotated[str | tuple[str, ...], BeforeValidator(validate_command)]


def _cache_size(value: object) -> object:
    if isinstance(value, str) and (value == OFF or re.fullmatch(r"0*[1-9][0-9]{0,5}[MG]", value, re.ASCII)):
        return value
    # ccache takes 0, or a number without a unit, for something else than its reader does.
    raise refused("is no size of a cache", f'"500M", "5G", or "{OFF}" to build without')


OFF = "off"
CacheSize = Annotated[str, BeforeValidator(_cache_size)]


class RequiresSettings(Table):
    """What a worker must have; what is left out follows ``uses``."""

    os: Literal["linux", "windows"] | None = None
    tools: frozenset[str] | None = None
    local: Switch | None = None


class PrebuiltSettings(Table):
    """Published packages that the test stage installs: the baseline to compare a build with."""

    packages: Annotated[Texts, Field(min_length=1)]
    find_links: str = ""
    index: Switch = True  #: false adds ``--no-index``
    no_deps: Switch = False
    dependencies: Texts = ()  #: installed apart, from the index, before ``packages``
    imports: Names = ()
    same_version: Texts = ()  #: distributions that must come in one and the same version


class PytestSettings(Table):
    paths: Annotated[Texts, Field(min_length=1)] = ("tests",)
    marker: str = ""
    minimum_passed: Count = 1  #: a suite that skips everything is no success
    arguments: Texts = ()


class WheelVariant(Table):
    config_cmake: CMakeOptions = Field(default_factory=dict)


class CacheSettings(Table):
    """How large the compilers' caches of one worker may grow; ``off``: build without."""

    ccache: CacheSize = "5G"  #: C, C++ and CUDA
    sccache: CacheSize = "5G"  #: Rust


class WheelSettings(Table):
    """How the wheel is built, repaired and checked."""

    package: str  #: the import package the wheel must hold
    directory: str = "."  #: where its ``pyproject.toml`` is
    version_script: str = ""
    config_cmake: CMakeOptions = Field(default_factory=dict)
    variants: Mapping[str, WheelVariant] = Field(default_factory=dict)
    libraries: Texts = ()  #: must lie at the package's root
    caches: CacheSettings = CacheSettings()
    repair: Switch = True
    exclude: Texts = ()  #: sonames auditwheel must not graft
    imports: Names = ()
    import_needs: Texts = ()  #: requirements installed beside the wheel before it is imported

    def config_for(self, variant: str) -> dict[str, str]:
        """What ``config.cmake`` sets for one variant."""
        own = self.variants[variant].config_cmake if variant in self.variants else {}
        return {**self.config_cmake, **own}


class TargetSettings(Table):
    """Where a release goes."""

    kind: Literal["folder"] = "folder"
    folder: str = "releases"  #: relative to the master's folder


class StageSettings(Table):
    """One ``[stages.NAME]``. ``None`` means: what :data:`USES` or ``[scheduling]`` says."""

    uses: Uses | None = None  #: the stage's own name, where that is a ``uses``
    needs: Texts = ()
    when: Annotated[frozenset[EventKind], Field(min_length=1)] | None = None
    paths: Texts = ()
    paths_ignore: Texts = ()
    requires: RequiresSettings = RequiresSettings()
    variants: Texts = ()
    continue_on_error: Switch | None = None
    always: Switch | None = None
    publishes: Switch | None = None
    no_worker: NoWorkerPolicy | None = None
    queue_timeout: PositiveDuration | None = None
    timeout: PositiveDuration | None = None
    silence_timeout: PositiveDuration | None = None
    infrastructure_retries: Annotated[Number, Field(ge=0)] | None = None
    secrets: SecretNames = ()
    permissions: Mapping[str, Permission] = Field(default_factory=dict)
    environment: Environment = Field(default_factory=dict)

    prebuilt: PrebuiltSettings | None = None
    pytest: PytestSettings | None = None
    wheel: WheelSettings | None = None
    target: TargetSettings = TargetSettings()
    commands: tuple[Command, ...] = ()
    artifacts: Texts = ()

    def used(self, name: str) -> str:
        """The ``uses`` of the stage of this name; empty when neither it nor the name says one."""
        return self.uses or (name if name in USES else "")

    def required(self, name: str) -> Requires:
        use = USES.get(self.used(name), Use())
        local = use.local if self.requires.local is None else self.requires.local
        if local:
            return Requires(local=True)
        tools = use.tools if self.requires.tools is None else self.requires.tools
        return Requires(os=self.requires.os or use.os, tools=tools)

    def has(self, part: str) -> bool:
        """Whether the settings fill this one of :data:`PARTS`."""
        return part in self.model_fields_set and getattr(self, part) not in (None, ())
