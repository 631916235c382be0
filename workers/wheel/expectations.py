"""What a caller demands of a wheel, typed; and how it is read from JSON.

Nothing demanded: the wheel is only checked for being whole, consistent and honest about its tags, as any wheel on
PyPI should be. Anything demanded: it is *ours*, and what we do not want in our wheels is looked for as well
(``policy``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from workers.errors import UsageError

#: What version scripts write when git tells them nothing, as text: 0.1.0 may be a first release, 0.1 never was.
PLACEHOLDERS = ("0.1", "0.1.dev0", "0.0.0", "0.0.0.dev0", "0.0", "0", "0+unknown", "0.0.0+unknown")
#: The monolithic library of TVM before 0.20: what links to it does not load with today's split libraries.
FORBIDDEN = ("libtvm.so", "tvm.dll")
#: Whose home is another package or the driver, by the beginning of their names.
NEVER_GRAFTED = ("libtvm*", "tvm*.dll", "libvulkan*", "vulkan-1*.dll", "libcuda*", "libnvidia*", "nvcuda*.dll")
#: Checks whose answer is sometimes "yes, this one, on purpose": NumPy ships static libraries for its users.
ALLOWABLE = (
    "static-archive",
    "bytecode",
    "toplevel",
    "library-format",
    "library-duplicate",
    "tag-pure",
    "native-foreign",
    "elf-machine",
    "tag-bare-linux",
    "rpath",
)
PLATFORM = re.compile(r"(linux_(x86_64|aarch64)|win_amd64|any)")
CEILING = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}")
_SIZE = re.compile(r"(\d{1,12})\s*([KMG]?)(i?B)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """Patterns are those of the shell (``*``, ``?``). File names of Windows are compared without case."""

    policy: bool = False
    version: str = ""
    tag: str = ""  #: as ``version``; a leading v is fine
    placeholders: tuple[str, ...] = PLACEHOLDERS
    platforms: tuple[str, ...] = ()  #: linux_x86_64, linux_aarch64, win_amd64, any: exactly one wheel for each
    package: str = ""  #: the import package
    libraries: tuple[str, ...] = ()  #: must lie at the package's root
    allow: tuple[
        str, ...
    ] = ()  #: CHECK=PATTERN: this check does not apply to members of such names (:data:`ALLOWABLE`)
    exclude: tuple[str, ...] = ()  #: libraries that come from elsewhere: may be needed, must not be grafted
    needed: tuple[str, ...] = ()  #: patterns of further libraries that may be needed or imported
    forbidden: tuple[str, ...] = FORBIDDEN  #: patterns of libraries that must not be needed
    never_grafted: tuple[str, ...] = NEVER_GRAFTED  #: patterns, besides ``exclude``
    glibc: str = ""  #: ceilings, besides those of the platform tag
    glibcxx: str = ""
    cxxabi: str = ""
    max_size: int = 0  #: bytes of the file; 0: any
    requires_dist: tuple[str, ...] = ()
    tvm: tuple[str, ...] = ()  #: wheels or libraries whose symbols TVM's undefined ones must come from
    manifest: bool = False  #: a manifest lies beside it, and is its own
    install: bool = False  #: install it into a throwaway environment of this interpreter

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no wheel could meet."""
        for name in ("version", "tag"):
            if getattr(self, name):
                _require(name, getattr(self, name), Version, InvalidVersion, "a version (PEP 440)")
        for requirement in self.requires_dist:
            _require("requires_dist", requirement, Requirement, InvalidRequirement, "a requirement (PEP 508)")
        for platform in self.platforms:
            if not PLATFORM.fullmatch(platform):
                raise ValueError(f"platforms: {platform!r} is not linux_x86_64, linux_aarch64, win_amd64 or any")
        for word in self.allow:
            check, equals, pattern = word.partition("=")
            if check not in ALLOWABLE or not equals or not pattern:
                raise ValueError(f"allow: {word!r} is not CHECK=PATTERN, CHECK one of {', '.join(ALLOWABLE)}")
        for name in ("glibc", "glibcxx", "cxxabi"):
            if getattr(self, name) and not CEILING.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r} is no version such as 2.28")
        if self.libraries and not self.package:
            raise ValueError("libraries: they lie at the package's root, and no package is named")

    def allows(self, check: str, file: str) -> bool:
        return any(fnmatchcase(f"{check}={file}", word) for word in self.allow if word.startswith(f"{check}="))

    @property
    def wanted_version(self) -> Version | None:
        wanted = self.tag or self.version
        return Version(wanted) if wanted else None


def _require(name: str, value: str, parse: Any, error: type[Exception], what: str) -> None:
    try:
        parse(value)
    except error:
        raise ValueError(f"{name}: {value!r} is not {what}") from None


def parse_size(text: str) -> int:
    """``500M`` in bytes (of 1024). Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no size such as 500M")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Expectations:
    """Expectations from two sources: lists add up, single values of the second win. Raises ValueError."""
    kinds = {field.name: type(field.default) for field in fields(Expectations)}
    values: dict[str, Any] = {}
    for source in (base, over):
        for name, value in source.items():
            if name not in kinds:
                raise ValueError(f"{name!r} is no expectation; there are {', '.join(kinds)}")
            values[name] = _typed(name, value, kinds[name], values.get(name))
    values.setdefault("policy", any(value for name, value in values.items()))
    return Expectations(**values)


def _typed(name: str, value: Any, kind: type, before: Any) -> Any:
    if kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"{name}: expected a list of texts, found {value!r}")
        return (*(before or ()), *value)
    if name == "max_size" and isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise ValueError(f"max_size: {error}") from None
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise ValueError(f"{name}: expected {'a text' if kind is str else kind.__name__}, found {value!r}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The object in an expectations file. Raises :class:`UsageError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--expect {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"--expect {path} holds no JSON object")
    return found
