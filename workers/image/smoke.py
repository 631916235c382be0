"""An image tried as it will run: as a user that is not root, read-only, without capabilities and without network.

What is tried is the command that the settings name, else the image's own ``HEALTHCHECK``, run by itself.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from workers.errors import CodeError, InfrastructureError
from workers.image.client import LABEL, Docker, local_name, workspace
from workers.image.failures import judged

LOCKED = (
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--pids-limit=512",
)
_ROOT = ("", "0", "root")


def smoke(docker: Docker, target: str, command: Sequence[str]) -> None:
    """Raises :class:`workers.errors.ToolError` for an image that runs as root or fails its test."""
    image = local_name(target)
    config = inspected(docker, image)["Config"]
    user = str(config.get("User") or "")
    if user.partition(":")[0] in _ROOT or uid_of(docker, image, user.partition(":")[0]) == 0:
        found = f"USER {user}" if user else "no USER"
        raise CodeError(f"{_named(target)} runs as root ({found}): it must end with a USER that is not")
    argv = list(command) or health_check(config)
    if not argv:
        raise CodeError(f"nothing says how {_named(target)} is tried: give it a HEALTHCHECK, or the settings a smoke")
    print(f"{_named(target)} as {user}: {argv}", flush=True)
    name = f"mlc-ci-{uuid.uuid4().hex[:16]}"
    options = ["--rm", f"--name={name}", f"--label={LABEL}={workspace()}", *LOCKED]
    process = docker.start("run", *options, f"--entrypoint={argv[0]}", image, *argv[1:])
    lines = list[str]()
    with process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines = [*lines[-20:], line.strip()]
    code = process.returncode
    if code == 125:  # docker's own
        raise judged(lines)
    if code:
        last = next((line for line in reversed(lines) if line), "")
        said = f"; its last line: {last[:160]}" if last else ""
        raise CodeError(f"the smoke test of {_named(target)} ended with exit code {code}: {' '.join(argv)}{said}")


def health_check(config: Mapping[str, Any]) -> list[str]:
    """The image's own, as a command; empty where it has none."""
    test = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    match test[0]:
        case "CMD":
            return list(test[1:])
        case "CMD-SHELL":
            return ["/bin/sh", "-c", *test[1:]]
        case _:
            return []


def inspected(docker: Docker, image: str) -> Mapping[str, Any]:
    """What the engine says of an image. Raises :class:`workers.errors.ToolError`."""
    try:
        found: Mapping[str, Any] = json.loads(docker.ask("image", "inspect", image))[0]
    except (ValueError, LookupError) as error:
        raise InfrastructureError(f"what docker says of {image} cannot be read: {error!r}") from None
    return found


def uid_of(docker: Docker, image: str, user: str) -> int | None:
    """A user's number: its own, or that in the image's /etc/passwd; ``None`` where nothing tells."""
    if user.isdecimal():
        return int(user)
    name = docker.ask("container", "create", f"--label={LABEL}={workspace()}", image, "true").strip()
    try:
        copied = ["docker", "container", "cp", f"{name}:/etc/passwd", "-"]  # a tar; nothing where there is no such file
        archive = subprocess.run(copied, env=docker.environment, check=False, capture_output=True).stdout
    finally:
        docker.ask("container", "rm", "--force", name)
    try:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            file = files.extractfile("passwd")
            text = file.read().decode(errors="replace") if file else ""
    except (tarfile.TarError, KeyError):
        return None
    rows = [line.split(":") for line in text.splitlines()]
    return next((int(row[2]) for row in rows if len(row) > 2 and row[0] == user and row[2].isdecimal()), None)


def _named(target: str) -> str:
    return f"image {target}" if target else "the image"
