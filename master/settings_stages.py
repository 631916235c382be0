"""A stage as its settings describe it, and what each ``uses`` brings along when the settings do not say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from master.capabilities import GpuWanted, ToolWanted, split_tool
from master.pipeline import EventKind, NoWorkerPolicy, Requires
from master.settings_artifacts import DownloadSettings
from master.settings_docker import ImageSettings
from master.settings_limits import LimitSettings
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
    validate_command,
)
from master.settings_wheel import WheelSettings

Uses = Literal["test", "docker", "build-linux", "build-windows", "release", "summary", "commands"]
IN_MASTER = ("release", "summary")  #: what a stage uses whose steps run in the master: they have no command
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
        reads=frozenset({"image"}),
        must_have=frozenset({"image"}),
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
    "commands": Use(reads=frozenset({"commands", "artifacts", "downloads"}), must_have=frozenset({"commands"})),
}

#: The parts of a stage that only some ``uses`` read.
PARTS = ("prebuilt", "pytest", "wheel", "image", "target", "commands", "artifacts", "downloads")

Command = Annotated[str | tuple[str, ...], BeforeValidator(validate_command)]


class RequiresVariant(Table):
    """What one variant of the stage requires instead."""

    tools: frozenset[ToolWanted] | None = None
    gpu: GpuWanted | None = None


class RequiresSettings(Table):
    """What a worker must have; what is left out follows ``uses``."""

    os: Literal["linux", "windows"] | None = None
    tools: frozenset[ToolWanted] | None = None
    gpu: GpuWanted | None = None
    local: Switch | None = None
    variants: Mapping[str, RequiresVariant] = Field(default_factory=dict)


class PrebuiltVariant(Table):
    """What one variant of the stage has instead: keys of the prebuilt packages' own table."""

    packages: Annotated[Texts, Field(min_length=1)] | None = None
    find_links: str | None = None
    index: Switch | None = None
    no_deps: Switch | None = None
    dependencies: Texts | None = None
    imports: Names | None = None
    same_version: Texts | None = None


class PrebuiltSettings(Table):
    """Published packages that the test stage installs: the baseline to compare a build with."""

    packages: Annotated[Texts, Field(min_length=1)]
    find_links: str = ""
    index: Switch = True  #: false adds ``--no-index``
    no_deps: Switch = False
    dependencies: Texts = ()  #: installed apart, from the index, before ``packages``
    imports: Names = ()
    same_version: Texts = ()  #: distributions that must come in one and the same version
    variants: Mapping[str, PrebuiltVariant] = Field(default_factory=dict)

    def for_variant(self, name: str) -> PrebuiltSettings:
        return _varied(self, self.variants.get(name))


class PytestVariant(Table):
    """What one variant of the stage has instead: keys of the suite's own table."""

    paths: Annotated[Texts, Field(min_length=1)] | None = None
    marker: str | None = None
    minimum_passed: Count | None = None
    arguments: Texts | None = None


class PytestSettings(Table):
    paths: Annotated[Texts, Field(min_length=1)] = ("tests",)
    marker: str = ""
    minimum_passed: Count = 1  #: a suite that skips everything is no success
    arguments: Texts = ()
    variants: Mapping[str, PytestVariant] = Field(default_factory=dict)

    def for_variant(self, name: str) -> PytestSettings:
        return _varied(self, self.variants.get(name))


_Varied = TypeVar("_Varied", bound=Table)


def _varied(table: _Varied, variant: Table | None) -> _Varied:
    """The table as one variant sees it: what that says wins."""
    own = {key: getattr(variant, key) for key in variant.model_fields_set} if variant else {}
    return table.model_copy(update={**own, "variants": {}})


class TargetSettings(Table):
    """Where a release goes."""

    kind: Literal["folder", "github"] = "folder"  #: ``github``: a release of ``[github] repository``
    folder: str = "releases"  #: relative to the master's folder; of kind ``folder``
    manifests: Switch = True  #: a wheel without its manifest is refused
    notes: str = ""  #: a Jinja2 template for the release notes, relative to the master's folder; empty: the shipped one


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
    limits: LimitSettings = LimitSettings()
    infrastructure_retries: Annotated[Number, Field(ge=0)] | None = None
    secrets: SecretNames = ()
    permissions: Mapping[str, Permission] = Field(default_factory=dict)
    environment: Environment = Field(default_factory=dict)

    prebuilt: PrebuiltSettings | None = None
    pytest: PytestSettings | None = None
    wheel: WheelSettings | None = None
    image: ImageSettings | None = None
    target: TargetSettings = TargetSettings()
    commands: tuple[Command, ...] = ()
    artifacts: Texts = ()
    keep_artifacts: PositiveDuration | None = None  #: ``None``: as ``[artifacts] keep`` says
    downloads: tuple[DownloadSettings, ...] = ()

    def used(self, name: str) -> str:
        """The ``uses`` of the stage of this name; empty when neither it nor the name says one."""
        return self.uses or (name if name in USES else "")

    @property
    def validates(self) -> bool:
        """Whether it runs, but for what is seen outside, where nothing is published."""
        return self.image is not None and self.image.validates

    def events(self, use: Use) -> frozenset[EventKind]:
        """What it runs for."""
        return self.when or use.when | ({EventKind.PULL_REQUEST} if self.validates else frozenset())

    def required(self, name: str) -> Requires:
        use = USES.get(self.used(name), Use())
        local = use.local if self.requires.local is None else self.requires.local
        if local:
            return Requires(local=True)
        tools = use.tools if self.requires.tools is None else self.requires.tools
        return _asking(Requires(os=self.requires.os or use.os, gpu=self.requires.gpu), tools)

    def required_by_variants(self, name: str) -> dict[str, Requires]:
        """Of the variants that say something else than the stage."""
        whole = self.required(name)
        if whole.local:
            return {}
        found = {}
        for variant, own in self.requires.variants.items():
            differing = replace(whole, gpu=own.gpu or whole.gpu)
            found[variant] = differing if own.tools is None else _asking(differing, own.tools)
        return found

    def has(self, part: str) -> bool:
        """Whether the settings fill this one of :data:`PARTS`."""
        return part in self.model_fields_set and getattr(self, part) not in (None, ())


def _asking(requires: Requires, tools: Iterable[str]) -> Requires:
    """With these tools: of those that name versions the probe knows, of the others the settings."""
    versioned = sorted(tool for tool in tools if (split := split_tool(tool)) and split[1])
    return replace(requires, tools=frozenset(tools).difference(versioned), versions=tuple(versioned))
