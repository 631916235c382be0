"""One image by BuildKit, into this worker's engine or out into the registry: the same build, from one cache."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.errors import CodeError, InfrastructureError
from workers.image.client import STATE, Docker, local_name
from workers.image.failures import judged

_KEPT = 400  # lines of output that a failure is read from


@dataclass(frozen=True, kw_only=True)
class Build:
    """What is built, as the settings say."""

    dockerfile: str
    context: str
    network: str
    arguments: tuple[str, ...]  #: NAME=VALUE
    secrets: tuple[str, ...]  #: ID=FILE of this worker
    labels: tuple[str, ...]  #: NAME=VALUE
    cache: str  #: REPOSITORY:TAG, or nothing

    @classmethod
    def of(cls, options: argparse.Namespace) -> Build:
        return cls(
            dockerfile=options.dockerfile,
            context=options.context,
            network=options.network,
            arguments=tuple(options.argument),
            secrets=tuple(options.secret),
            labels=tuple(options.label),
            cache=options.cache,
        )

    def words(self, target: str) -> list[str]:
        words = ["buildx", "build", "--progress=plain", f"--file={self.dockerfile}", f"--network={self.network}"]
        words += [f"--target={target}"] if target else []
        words += [f"--build-arg={argument}" for argument in self.arguments]
        words += [f"--label={label}" for label in self.labels]
        for secret in self.secrets:
            name, _, file = secret.partition("=")
            words.append(f"--secret=id={name},src={file}")
        return words + ([f"--cache-from=type=registry,ref={self.cached(target)}"] if self.cache else [])

    def cached(self, target: str) -> str:
        """Where a target's cache is."""
        return f"{self.cache}-{target}" if target else self.cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of a build. Everything that is given to build must be given to publish: it is the same build."""
    parser.add_argument("--dockerfile", required=True, metavar="FILE")
    parser.add_argument("--context", default=".", metavar="FOLDER")
    parser.add_argument("--network", default="default", choices=("default", "host", "none"), help="of its RUN lines")
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--secret", action="append", default=[], metavar="ID=FILE", help="for RUN --mount=type=secret")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cache", default="", metavar="REPOSITORY:TAG", help="a cache in the registry to read")
    parser.add_argument("--target", action="append", default=[], help="of the Dockerfile; left out: its last stage")


def load(docker: Docker, build: Build, targets: Sequence[str]) -> None:
    """Builds the targets into the engine, under their local names. Raises :class:`workers.errors.ToolError`."""
    _check(build)
    for target in targets:
        # attestations are made when it is published: not every engine can keep them
        more = ["--provenance=false", "--sbom=false", "--load", f"--tag={local_name(target)}"]
        _run(docker, [*build.words(target), *more, build.context])


def push(docker: Docker, build: Build, target: str, reference: str, *, sbom: str, write_cache: bool) -> str:
    """Builds it again, all of it from the cache, with attestations, and pushes it by this one tag; its digest."""
    metadata = STATE / "metadata.json"
    more = ["--provenance=mode=max", f"--sbom=generator={sbom}" if sbom else "--sbom=false"]
    more += [f"--metadata-file={metadata}", f"--output=type=image,name={reference},push=true"]
    if write_cache:
        more.append(f"--cache-to=type=registry,ref={build.cached(target)},mode=max")
    _run(docker, [*build.words(target), *more, build.context])
    try:
        digest = json.loads(metadata.read_text(encoding="utf-8"))["containerimage.digest"]
    except (OSError, ValueError, LookupError) as error:
        raise InfrastructureError(f"buildx does not say what it has pushed: {error}") from None
    return str(digest)


def _check(build: Build) -> None:
    if not Path(build.dockerfile).is_file():
        raise CodeError(f"there is no {build.dockerfile} in the checkout: [stages.….image] dockerfile names it")
    if not Path(build.context).is_dir():
        raise CodeError(f"there is no folder {build.context} in the checkout: [stages.….image] context names it")
    for secret in build.secrets:
        name, _, file = secret.partition("=")
        if not Path(file).is_file():
            raise InfrastructureError(f"this worker has no {file}, which the build has as secret {name}")


def _run(docker: Docker, words: list[str]) -> None:
    # one time for all layers: the commit's
    committed = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], check=False, capture_output=True, text=True
    ).stdout.strip()
    timed = Docker({**docker.environment, **({"SOURCE_DATE_EPOCH": committed} if committed else {})})
    lines = deque[str](maxlen=_KEPT)
    try:
        process = timed.start(*words)
    except FileNotFoundError:
        raise InfrastructureError("this worker has no docker") from None
    with process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    if process.returncode:
        raise judged(list(lines), docker.registry)
