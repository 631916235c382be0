"""``[stages.NAME.image]``: what a docker stage builds, how it is tried, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from master.settings_types import SECRET_NAME, Switch, Table, Text, refused, validate_command
from workers.image.findings import SEVERITIES

_REGISTRY = re.compile(r"(?=.*[.:]|localhost$)[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?", re.ASCII)
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", re.ASCII)
_SUFFIX = re.compile(r"([._-][A-Za-z0-9._-]{0,30})?", re.ASCII)
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
SBOM_GENERATOR = "docker/buildkit-syft-scanner:stable-1"  #: BuildKit's own, of Docker Hub


def _registry(value: str) -> str:
    if "://" in value or not _REGISTRY.fullmatch(value):
        raise refused("is no registry", '"ghcr.io" or "registry.example.org:5000": a host, without https:// and path')
    return value


def _repository(value: str) -> str:
    if not _REPOSITORY.fullmatch(value):
        raise refused("is no name of an image", '"owner/name" in small letters, without registry and tag')
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in re.split(r"[/\\]", value):
        raise refused("leads out of the checkout", "a path below the checkout")
    return value


def _keys(known: re.Pattern[str], what: str, allowed: str) -> AfterValidator:
    def check(value: Mapping[str, str]) -> Mapping[str, str]:
        for key in value:
            if not known.fullmatch(key):
                raise refused(f"{key!r} is no {what}", allowed)
        return value

    return AfterValidator(check)


def _suffixes(value: Mapping[str, str]) -> Mapping[str, str]:
    for suffix in value.values():
        if not _SUFFIX.fullmatch(suffix):
            raise refused(f"{suffix!r} cannot end a tag", '"" for one target, "-dev" and the like for others')
    if len(set(value.values())) < len(value):
        raise refused("two targets would have the same tags", "another suffix for each")
    return value


def _argv(value: object) -> object:
    """A program with its arguments: no shell is sure to be there."""
    if isinstance(value, str):
        raise refused("is no command", '["program", "argument"]')
    return validate_command(value) if value else ()


def _secret(value: str) -> str:
    if not SECRET_NAME.fullmatch(value):
        raise refused("is no name of a secret", "the name of a file in the secrets folder: letters, digits, _, - and .")
    return value


class LoginSettings(Table):
    """A user of the registry, with a password from the secrets folder, which the stage names in ``secrets`` too."""

    user: Text
    secret: Annotated[str, AfterValidator(_secret)]


Argv = Annotated[tuple[str, ...], BeforeValidator(_argv)]
_IDENTIFIERS = "letters, digits, _, - and ."


class ImageSettings(Table):
    registry: Annotated[str, AfterValidator(_registry)] = "ghcr.io"
    repository: Annotated[str, AfterValidator(_repository)]
    login: Literal["token"] | LoginSettings = "token"  #: ``token``: the stage's own of GitHub's

    dockerfile: Annotated[str, AfterValidator(_inside)] = ""  #: in the checkout; empty: the shipped one
    context: Annotated[Text, AfterValidator(_inside)] = "."  #: in the checkout
    targets: Annotated[
        Mapping[str, str],
        _keys(_TARGET, "target of a Dockerfile", _IDENTIFIERS),
        AfterValidator(_suffixes),
    ] = Field(default_factory=dict)  #: to what their tags end with; empty: the Dockerfile's last stage
    arguments: Annotated[Mapping[str, str], _keys(_ARGUMENT, "build argument", "letters, digits and _")] = Field(
        default_factory=dict
    )
    secrets: Annotated[Mapping[str, str], _keys(_TARGET, "id of a build secret", _IDENTIFIERS)] = Field(
        default_factory=dict
    )  #: files of the worker, for ``RUN --mount=type=secret``
    network: Literal["default", "host", "none"] = "default"  #: of RUN
    version_script: Annotated[str, AfterValidator(_inside)] = ""  #: before the build: it stamps the version
    directory: Annotated[Text, AfterValidator(_inside)] = "."  #: where the pyproject.toml is that it stamps

    latest: Switch = True  #: on the default branch
    bare_version: Switch = False  #: ``1.0.0`` beside ``v1.0.0``
    cache: Switch = True  #: in the registry, as ``buildcache``
    sbom: str = SBOM_GENERATOR  #: the image with which BuildKit makes it; empty: none
    pull_requests: Literal["skip", "validate"] = "skip"  #: ``validate``: everything but login, push and cache

    lint: Switch = True
    smoke: Argv = ()  #: in each target; empty: its HEALTHCHECK
    scan: Argv = ()
    fail_on: str = Field(default="high", pattern=f"^({'|'.join(SEVERITIES)})$")

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def suffixes(self) -> Mapping[str, str]:
        """Target to suffix, the last stage's under an empty name."""
        return self.targets or {"": ""}

    @property
    def validates(self) -> bool:
        """Whether it also runs where nothing is published."""
        return self.pull_requests == "validate"
