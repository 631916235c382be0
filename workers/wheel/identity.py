"""Who a wheel says it is: file name, WHEEL and the .dist-info folder, which have to agree."""

from __future__ import annotations

import email.parser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from workers.wheel.checks import Finding, shown
from workers.wheel.expectations import Expectations
from workers.wheel.platform import Promise, promise

_LONGEST_TAG = 256  # a compressed tag set multiplies: "a.b-c.d-e.f" is eight tags
_MOST_TAGS = 1000


@dataclass(frozen=True, kw_only=True)
class Identity:
    name: NormalizedName
    version: Version
    build: str
    tags: frozenset[Tag]
    promise: Promise

    @property
    def interpreters(self) -> str:
        return ".".join(sorted({f"{tag.interpreter}-{tag.abi}" for tag in self.tags}))


def parse_filename(filename: str) -> Identity | Finding:
    try:
        if len(filename) > _LONGEST_TAG:
            raise InvalidWheelFilename(f"it has {len(filename)} characters")
        name, version, build, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion, ValueError) as error:
        return Finding(check="filename", file="", reason=shown(error))
    platforms = promise(sorted({tag.platform for tag in tags}))
    return Identity(name=name, version=version, build="".join(map(str, build)), tags=tags, promise=platforms)


def dist_info_folder(identity: Identity, folders: set[str]) -> str | Finding:
    """The one ``.dist-info`` folder, or what is wrong with those that are there."""
    found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if len(found) != 1:
        said = ", ".join(map(shown, found[:5])) or "none"
        return Finding(check="dist-info", file="", reason=f"expected one .dist-info folder, found {said}")
    name, _, version = found[0].removesuffix(".dist-info").rpartition("-")
    try:
        same = canonicalize_name(name) == identity.name and Version(version) == identity.version
    except InvalidVersion:
        same = False
    if not same:
        wanted = f"{identity.name} {identity.version}"
        return Finding(
            check="dist-info", file=shown(found[0]), reason=f"it is not that of {wanted}, as the file name says"
        )
    return found[0]


def missing_files(folder: str, texts: Mapping[str, bytes]) -> Iterator[Finding]:
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{folder}/{name}" not in texts:
            yield Finding(check="dist-info", file=shown(folder), reason=f"{name} is missing in it")


def wheel_findings(identity: Identity, file: str, data: bytes) -> Iterator[Finding]:
    """WHEEL against the file name."""
    message = email.parser.BytesParser().parsebytes(data, headersonly=True)
    version = str(message.get("Wheel-Version", ""))
    if not version.startswith("1."):
        yield Finding(check="wheel-file", file=file, reason=f"Wheel-Version is {shown(version) or 'missing'}, not 1.x")
        return
    if str(message.get("Root-Is-Purelib", "")).lower() not in ("true", "false"):
        yield Finding(check="wheel-file", file=file, reason="Root-Is-Purelib is neither true nor false")
        return
    lines = [str(line) for line in message.get_all("Tag", [])]
    if len(lines) > _MOST_TAGS or any(len(line) > _LONGEST_TAG or line.count("-") != 2 for line in lines):
        yield Finding(check="wheel-file", file=file, reason="a Tag is not PYTHON-ABI-PLATFORM, or there are too many")
        return
    try:
        tags = {tag for line in lines for tag in parse_tag(line)}
    except ValueError as error:
        yield Finding(check="wheel-file", file=file, reason=f"a Tag is none: {shown(error)}")
        return
    if tags != identity.tags:
        said = ", ".join(sorted(map(str, tags - identity.tags))) or "fewer tags"
        wanted = ", ".join(sorted(map(str, identity.tags)))
        yield Finding(check="tag-mismatch", file=file, reason=f"it says {shown(said)}; the file name {shown(wanted)}")
    build = str(message.get("Build", ""))
    if build != identity.build:
        yield Finding(check="tag-mismatch", file=file, reason=f"it says build {shown(build) or 'none'}; "
                      f"the file name {shown(identity.build) or 'none'}")  # fmt: skip


def bare_findings(identity: Identity) -> Iterator[Finding]:
    if identity.promise.bare:
        platforms = ", ".join(sorted(identity.promise.platforms))
        yield Finding(check="tag-bare-linux", file="", reason=f"the platform tag is {platforms}: no index takes it")


def platform_findings(identity: Identity, expected: Expectations) -> Iterator[Finding]:
    if not identity.promise.platforms & set(expected.platforms):
        found, wanted = ", ".join(sorted(identity.promise.platforms)), " or ".join(expected.platforms)
        yield Finding(check="tag-platform", file="", reason=f"it is for {shown(found)}, not for {wanted}")


def version_findings(identity: Identity, expected: Expectations) -> Iterator[Finding]:
    wanted = expected.wanted_version
    if identity.version != wanted:
        source = f"tag {expected.tag}" if expected.tag else "asked for"
        reason = f"the version is {identity.version}, not {wanted} ({source})"
        yield Finding(check="version", file="", reason=reason)


def placeholder_findings(identity: Identity, expected: Expectations) -> Iterator[Finding]:
    if {str(identity.version), identity.version.public} & set(expected.placeholders):
        reason = f"the version is {identity.version}: what version scripts write when git tells them nothing"
        yield Finding(check="placeholder-version", file="", reason=reason)
