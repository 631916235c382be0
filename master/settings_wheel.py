"""How a build stage's wheel is built, repaired, and what the gate demands of it before it may leave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BeforeValidator, Field

from master.settings_types import Count, Names, Switch, Table, Text, Texts, refused, validate_cmake_value
from workers.wheel.bounds import Bounds as ReaderBounds
from workers.wheel.expectations import ALLOWABLE, CEILING, parse_size

OFF = "off"
_LOCAL_VERSION = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*", re.ASCII)
_TVM_FILE = re.compile(r".+\.(whl|so|dll)", re.IGNORECASE)


def _cache_size(value: object) -> object:
    if isinstance(value, str) and (value == OFF or re.fullmatch(r"0*[1-9][0-9]{0,5}[MG]", value, re.ASCII)):
        return value
    # ccache takes 0, or a number without a unit, for something else than its reader does.
    raise refused("is no size of a cache", f'"500M", "5G", or "{OFF}" to build without')


def _local_version(value: str) -> str:
    if value and not _LOCAL_VERSION.fullmatch(value):
        raise refused("is no local version (PEP 440)", 'small letters and digits, parted by dots: "cu128"')
    return value


def _requirement(value: str) -> str:
    try:
        Requirement(value)
    except InvalidRequirement as error:
        raise refused("is no requirement (PEP 508)", 'as in METADATA: "apache-tvm-ffi>=0.1.15,<0.2"') from error
    return value


def _tvm(value: str) -> str:
    """One exact TVM: another one may load and misbehave."""
    if _TVM_FILE.fullmatch(value) and "://" not in value:
        return value
    allowed = '"NAME==VERSION", "NAME @ URL", or a .whl, .so or .dll file of the checkout'
    try:
        requirement = Requirement(value)
    except InvalidRequirement as error:
        raise refused("is neither a requirement nor a library", allowed) from error
    pins = [part for part in requirement.specifier if part.operator == "==" and not part.version.endswith("*")]
    if not requirement.url and len(pins) != 1:
        raise refused("does not say which TVM exactly", allowed)
    return value


def _size(value: object) -> object:
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except ValueError:
            raise refused("is no size", '"200M", "1G" (of 1024), or a number of bytes') from None
    return value


def _ceiling(value: str) -> str:
    if value and not CEILING.fullmatch(value):
        raise refused("is no version of symbols", 'as "2.28"')
    return value


def _check(value: object) -> object:
    if value not in ALLOWABLE:
        raise refused("is no check that can be waived", ", ".join(ALLOWABLE))
    return value


def _bounds(value: Mapping[str, int]) -> Mapping[str, int]:
    known = [field.name for field in fields(ReaderBounds)]
    if unknown := sorted(set(value) - set(known)):
        raise refused(f"{unknown[0]!r} is no bound", ", ".join(known))
    return value


CMakeOptions = Mapping[str, Annotated[str, BeforeValidator(validate_cmake_value)]]
CacheSize = Annotated[str, BeforeValidator(_cache_size)]
Ceiling = Annotated[str, AfterValidator(_ceiling)]
Bounds = Annotated[Mapping[str, Annotated[Count, Field(ge=1)]], AfterValidator(_bounds)]


class CacheSettings(Table):
    """How large the compilers' caches of one worker may grow; ``off``: build without."""

    ccache: CacheSize = "5G"  #: C, C++ and CUDA
    sccache: CacheSize = "5G"  #: Rust


class WheelVariant(Table):
    """What one variant of the stage has for itself."""

    config_cmake: CMakeOptions = Field(default_factory=dict)
    local_version: Annotated[str, AfterValidator(_local_version)] = ""  #: ``cu128``: the wheel is VERSION+cu128


class Waiver(Table):
    """A check of the gate that does not hold for some members, and why."""

    check: Annotated[str, BeforeValidator(_check)]
    files: Text  #: a shell's pattern over the members' names; ``*`` for the wheel itself
    reason: Text


class ExpectSettings(Table):
    """What the gate demands besides the package, its libraries and the tag's version."""

    platform: Literal["linux_x86_64", "linux_aarch64", "any"] = "linux_x86_64"
    requires: tuple[Annotated[Text, AfterValidator(_requirement)], ...] = ()  #: METADATA must declare each of these
    max_size: Annotated[Count, BeforeValidator(_size)] = 0  #: bytes; 0: any
    needed: Texts = ()  #: further libraries (patterns) that may be NEEDED
    tvm: tuple[Annotated[Text, AfterValidator(_tvm)], ...] = ()  #: must export the TVM symbols that the wheel uses
    glibc: Ceiling = ""  #: the newest symbols allowed, besides what the platform tag says
    glibcxx: Ceiling = ""
    cxxabi: Ceiling = ""
    forbidden: Texts = ()  #: libraries (patterns) that must not be NEEDED; empty: the gate's own list
    never_grafted: Texts = ()  #: libraries (patterns) that must not be in it; empty: the gate's own list
    placeholders: Texts = ()  #: versions that stand for none; empty: the gate's own list
    allow: tuple[Waiver, ...] = ()
    bounds: Bounds = Field(default_factory=dict)  #: of the gate's reader, where its own are too narrow

    def tvm_files(self) -> list[str]:
        return [word for word in self.tvm if _TVM_FILE.fullmatch(word) and "://" not in word]

    def tvm_requirements(self) -> list[str]:
        return [word for word in self.tvm if word not in self.tvm_files()]


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
    expect: ExpectSettings = ExpectSettings()
    imports: Names = ()
    import_needs: Texts = ()  #: requirements installed beside the wheel before it is imported

    def variant(self, name: str) -> WheelVariant:
        return self.variants.get(name, WheelVariant())

    def config_for(self, variant: str) -> dict[str, str]:
        """What ``config.cmake`` sets for one variant."""
        return {**self.config_cmake, **self.variant(variant).config_cmake}
