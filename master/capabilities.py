"""What a stage asks of a host, what a host has, and why the one is not enough for the other: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BeforeValidator, Field, StrictFloat, StrictInt, model_validator

from master.settings_types import Switch, Table, refused

GIB = 1 << 30
CUDA, VULKAN = "cuda", "vulkan"
_TOOL = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*?)\s*([<>=!~].*)?", re.ASCII | re.DOTALL)
_DOTTED = re.compile(r"\d{1,4}(\.\d{1,6}){0,3}", re.ASCII)
_SHOWN = 13  # characters of a device's id: enough to tell those of one host apart
_COMPARED = {
    ">=": "is older than {}",
    ">": "is not newer than {}",
    "<=": "is newer than {}",
    "<": "is not older than {}",
}


def _tool(value: object) -> object:
    if isinstance(value, str):
        try:
            if split_tool(value):
                return value
        except InvalidSpecifier:
            pass
        raise refused(f"{value!r} names no tool", 'a name, alone or with versions: "cmake>=3.24", "gcc>=11,<14"')
    return value


def split_tool(text: str) -> tuple[str, SpecifierSet] | None:
    """Its name and the versions that will do; ``None`` when it is none. Raises InvalidSpecifier."""
    found = _TOOL.fullmatch(text.strip())
    return (found[1], SpecifierSet(found[2] or "")) if found else None


def _dotted(value: object) -> object:
    if isinstance(value, str) and not _DOTTED.fullmatch(value):
        raise refused(f"{value!r} is no version", 'numbers and dots, as text: "8.0"')
    return value


_Dotted = Annotated[str, BeforeValidator(_dotted)]
ToolWanted = Annotated[str, BeforeValidator(_tool)]


class GpuWanted(Table):
    """``gpu = { … }`` of a stage."""

    api: Literal["cuda", "vulkan"]
    count: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    min_vram_gib: Annotated[StrictFloat | StrictInt, Field(ge=0, le=65536)] = 0  #: free, on each
    min_compute: _Dotted | None = None  #: CUDA's compute capability
    min_api: _Dotted | None = None  #: of Vulkan the device's version, of CUDA the newest that the driver runs
    vendor: Annotated[str, Field(pattern=r"^[a-z0-9]+$", max_length=32)] | None = None
    software: Switch = False  #: a device that the CPU plays will do

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_compute and self.api != CUDA:
            raise refused("min_compute is CUDA's, and api is vulkan", "min_api, or api = 'cuda'")
        if self.software and self.api != VULKAN:
            raise refused("software devices are Vulkan's, and api is cuda", "software = false, or api = 'vulkan'")
        if self.api == CUDA and self.vendor not in (None, "nvidia"):
            raise refused(f"no board of {self.vendor} has CUDA", "vendor = 'nvidia', or api = 'vulkan'")
        return self


class Wanted(Table):
    """What is held against a host."""

    os: Literal["linux", "windows"] | None = None
    tools: tuple[ToolWanted, ...] = ()
    gpu: GpuWanted | None = None


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU of a host. Sizes in bytes."""

    id: str
    name: str
    vendor: str
    apis: Mapping[str, str | None]  #: api -> its version, where that is told
    memory_total: int | None = None
    memory_free: int | None = None
    compute: str | None = None
    index: int | None = None  #: its number among CUDA's devices, of one that has no CUDA among Vulkan's
    software: bool = False
    mig: bool = False
    ailing: tuple[str, ...] = ()  #: signs of bad health, none of which rules it out
    taken_by: tuple[str, ...] = ()  #: the processes that have memory of it, those with most first, in words

    @property
    def usable(self) -> int | None:
        """What a build may count on: all of it, where nothing tells what is free."""
        return self.memory_total if self.memory_free is None else self.memory_free


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a host has. ``provides``: what the settings say of the worker, and the probe cannot know."""

    os: str
    provides: frozenset[str] = frozenset()
    tools: Mapping[str, str] = field(default_factory=dict)  #: name -> version
    devices: tuple[Device, ...] = ()
    #: api or tool -> what is wrong with it, or why it is absent
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Match:
    """``refusals`` is empty when the host will do; ``devices`` are the ids of those that fit, best first."""

    refusals: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def match(wanted: Wanted, host: Capabilities, quarantined: Mapping[str, str] | None = None) -> Match:
    """Whether the host will do, and every reason why not, each to be read after its name: ``win-1 has no cuda``.

    ``quarantined``: a device's id -> why it is not used. Of the devices that fit, healthy ones come first, then those
    with the least free memory: the big ones stay free for who needs them.
    """
    refusals = [*_os(wanted, host), *_tools(wanted, host)]
    if not wanted.gpu:
        return Match(refusals=tuple(refusals))
    fitting, against = _devices(wanted.gpu, host, quarantined or {})
    return Match(refusals=(*refusals, *against), devices=tuple(device.id for device in fitting))


def _os(wanted: Wanted, host: Capabilities) -> Iterator[str]:
    if wanted.os and host.os != wanted.os:
        yield f"is {host.os}, not {wanted.os}"


def _tools(wanted: Wanted, host: Capabilities) -> Iterator[str]:
    for text in wanted.tools:
        name, versions = split_tool(text) or (text, SpecifierSet())
        if name in host.tools:
            yield from _against_version(name, host.tools[name], versions)
        elif name in host.broken:  # whatever the settings say that there is
            yield f"has no {name} that works: {host.broken[name]}"
        elif name not in host.provides:
            yield f"has no {name}"
        elif versions:
            yield f"does not say which version of {name} it has"


def _against_version(name: str, known: str, versions: SpecifierSet) -> Iterator[str]:
    try:
        version = Version(known)
    except InvalidVersion:
        if versions:
            yield f"{name} says the version {known!r}, which cannot be compared with {versions}"
        return
    for each in sorted(versions, key=str):
        if not each.contains(version):
            comparison = _COMPARED.get(each.operator, f"is not {each.operator}{{}}").format(each.version)
            yield f"{name} {known} {comparison}"


def _devices(
    wanted: GpuWanted, host: Capabilities, quarantined: Mapping[str, str]
) -> tuple[list[Device], tuple[str, ...]]:
    """Those that fit, best first; with too few of them, what is against the others."""
    having = [device for device in host.devices if wanted.api in device.apis]
    against = {device.id: list(_against(wanted, device, quarantined, len(having) == 1)) for device in having}
    fitting = sorted((device for device in having if not against[device.id]), key=_rank)
    if len(fitting) >= wanted.count:
        return fitting, ()
    if not having:
        broken = host.broken.get(wanted.api)
        return fitting, (f"has no {wanted.api}" + (f": {broken}" if broken else ""),)
    reasons = [reason for device in having for reason in against[device.id]]
    if wanted.count > 1 or len(having) > 1:
        reasons.insert(0, f"has {len(fitting)} of {wanted.count} GPUs that fit")
    return fitting, tuple(reasons)


def _rank(device: Device) -> tuple[object, ...]:
    usable = float("inf") if device.usable is None else device.usable
    return (len(device.ailing) > 0, device.software, usable, device.id)


def _against(wanted: GpuWanted, device: Device, quarantined: Mapping[str, str], alone: bool) -> Iterator[str]:
    """``alone``: what the only GPU has, the host has."""
    name = short(device.id)
    who = "" if alone else f"{name} "
    if reason := quarantined.get(device.id):
        yield f"{name} is quarantined: {reason}"
    if device.software and not wanted.software:
        yield f"{name} is software ({device.name})"
    if device.mig:
        yield f"{name} is split by MIG, whose slices are not scheduled"
    if wanted.vendor and device.vendor != wanted.vendor:
        yield f"{name} is of {device.vendor}, not {wanted.vendor}"
    yield from _too_old(f"{who}has compute capability", device.compute, wanted.min_compute)
    yield from _too_old(f"{who}has {wanted.api}", device.apis[wanted.api], wanted.min_api)
    needed = wanted.min_vram_gib * GIB
    if needed and device.usable is None:
        yield f"{name} does not say how much memory it has"
    elif needed and device.usable is not None and device.usable < needed:
        free = "" if device.memory_free is None else " free"
        yield f"{who}has {_gib(device.usable)} of {wanted.min_vram_gib:g} GiB{free}"


def short(gpu: str) -> str:
    """A board's id, as it is shown."""
    return gpu if len(gpu) <= _SHOWN else gpu[: _SHOWN - 1] + "…"


def _too_old(what: str, known: str | None, needed: str | None) -> Iterator[str]:
    if not needed:
        return
    try:
        if known is not None and Version(known) >= Version(needed):
            return
    except InvalidVersion:
        pass
    yield f"{what} {known or '(it does not say which)'}, and {needed} is needed"


def _gib(size: int) -> str:
    """Rounded down: what is too little does not look like enough."""
    return f"{size * 10 // GIB / 10:.1f}"
