"""What a registry has under a name, asked with docker's own client (``docker buildx imagetools``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workers.errors import InfrastructureError
from workers.image.client import Docker
from workers.image.failures import judged

REVISION = "org.opencontainers.image.revision"
_PLATFORM = "linux/amd64"


@dataclass(frozen=True, kw_only=True)
class Published:
    """An image in the registry."""

    digest: str
    revision: str  #: the commit that its label names; empty where it has none
    layers: tuple[str, ...]
    config: Mapping[str, Any]


def published(docker: Docker, reference: str) -> Published | None:
    """What is there; ``None`` for nothing.

    Raises:
        ToolError: the registry refuses, or is not to be reached.
    """
    done = docker.run("buildx", "imagetools", "inspect", reference, "--format", "{{json .}}")
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        if any(line.rstrip().endswith(": not found") for line in lines):
            return None
        raise judged(lines, docker.registry)
    try:
        said = json.loads(done.stdout)
        image = said["image"]
        image = image if "rootfs" in image else image[_PLATFORM]  # of several platforms, ours
        config = image.get("config") or {}
        return Published(
            digest=said["manifest"]["digest"],
            revision=str((config.get("Labels") or {}).get(REVISION, "")),
            layers=tuple(image["rootfs"]["diff_ids"]),
            config=config,
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"what the registry has as {reference} cannot be read: {error!r}") from None


def attested(docker: Docker, reference: str, what: Literal["SBOM", "Provenance"]) -> bool:
    """Whether the image there has it. Raises :class:`workers.errors.ToolError`."""
    said = docker.ask("buildx", "imagetools", "inspect", reference, "--format", f"{{{{json .{what}}}}}")
    try:
        return bool(json.loads(said))
    except ValueError:
        return False
