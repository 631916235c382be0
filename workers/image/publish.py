"""A tried image into the registry. Nothing is pushed that was not tried, and no tag moves to what is older.

First goes the tag that names the commit; what it leads to must have the tried image's layers and settings, and its
attestations. Then the registry itself makes the other tags lead to the same digest, and is asked for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workers.errors import CodeError, InfrastructureError
from workers.image.build import Build, push
from workers.image.client import Docker, local_name
from workers.image.registry import Published, attested, published
from workers.image.smoke import inspected

REPORT = "mlc-ci-worker image: published "
ATTESTATIONS: tuple[Literal["Provenance"], Literal["SBOM"]] = ("Provenance", "SBOM")
_SAME = ("User", "Entrypoint", "Cmd", "Env", "WorkingDir", "Labels")


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What an image is called. The first of ``fixed`` names its commit."""

    repository: str
    fixed: Sequence[str]  #: of one commit for good
    moving: Sequence[str]  #: lead to the newest
    suffixes: Mapping[str, str]  #: target -> what all its tags end with

    def of(self, target: str, tags: Sequence[str]) -> list[str]:
        return [f"{self.repository}:{tag}{self.suffixes[target]}" for tag in tags]


def access(docker: Docker, tags: Tags, revision: str) -> None:
    """Whether the registry lets us in, and has nothing else under a name that is for good.

    Raises:
        ToolError: it refuses, is not to be reached, or has an image of another commit there.
    """
    for target in tags.suffixes:
        for reference in tags.of(target, tags.fixed):
            there = published(docker, reference)
            if there and there.revision not in ("", revision):
                raise CodeError(
                    f"{reference} is there already, of commit {there.revision}: remove it there, or choose another tag"
                )
    print(f"{tags.repository}: the registry answers, and has nothing of another commit under these tags", flush=True)


def publish(
    docker: Docker,
    build: Build,
    tags: Tags,
    *,
    revision: str,
    newer: Collection[str],
    sbom: str,
    write_cache: bool,
) -> None:
    """Pushes every target; the last line says what is where. ``newer``: commits of newer runs of the same branch."""
    access(docker, tags, revision)
    pushed = []
    for target in tags.suffixes:
        first = tags.of(target, tags.fixed)[0]
        digest = push(docker, build, target, first, sbom=sbom, write_cache=write_cache)
        reference = f"{tags.repository}@{digest}"
        _same(docker, target, published(docker, reference))
        for what in ATTESTATIONS if sbom else ATTESTATIONS[:1]:
            if not attested(docker, reference, what):
                raise InfrastructureError(f"what was pushed has no {what}")
        docker.run("image", "rm", first)  # where the engine keeps what it pushes; it is tried by another name
        pushed.append((target, digest))
    told = [_tag(docker, tags, target, digest, newer) for target, digest in pushed]
    print(REPORT + json.dumps(told), flush=True)


def _tag(docker: Docker, tags: Tags, target: str, digest: str, newer: Collection[str]) -> dict[str, Any]:
    wanted, kept = tags.of(target, tags.fixed), []
    for reference in tags.of(target, tags.moving):
        there = published(docker, reference)
        if there and there.revision in newer:
            print(f"{reference} stays: it leads to commit {there.revision}, which is newer", flush=True)
            kept.append(reference)
        else:
            wanted.append(reference)
    words = [word for reference in wanted[1:] for word in ("--tag", reference)]
    if words:
        docker.ask("buildx", "imagetools", "create", *words, f"{tags.repository}@{digest}")
    for reference in wanted:
        there = published(docker, reference)
        if there is None or there.digest != digest:
            found = there.digest if there else "nothing"
            raise InfrastructureError(f"{reference} leads to {found}, not to {digest}, which was pushed")
        print(f"{reference} is {digest}", flush=True)
    return {
        "target": target,
        "repository": tags.repository,
        "digest": digest,
        "tags": [reference.rpartition(":")[2] for reference in wanted],
        "kept": [reference.rpartition(":")[2] for reference in kept],
    }


def _same(docker: Docker, target: str, there: Published | None) -> None:
    """Raises :class:`InfrastructureError` unless what was pushed is what was tried."""
    tried = inspected(docker, local_name(target))
    if there is None:
        raise InfrastructureError("the registry does not have what was just pushed to it")
    config = tried["Config"]
    differing = [name for name in _SAME if (config.get(name) or None) != (there.config.get(name) or None)]
    if tuple(tried["RootFS"]["Layers"]) != there.layers:
        differing.append("layers")
    if differing:
        raise InfrastructureError(f"what was pushed is not what was tried: {', '.join(differing)} differ")
