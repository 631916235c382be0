"""``ci/up --with-docker``: an engine and a registry beside the site, for the trusted worker and nobody else.

Who may speak to an engine is root on its machine: what pull requests run must not reach it. As root, the engine is a
private one whose socket belongs to the trusted worker's own group. Without root, it is the engine that the caller
already has, if there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from master.errors import UserError
from master.settings import Settings
from master.settings_docker import ImageSettings, LoginSettings
from master.site import engine, files, registry
from master.site.beside import Beside
from master.site.engine import Engine, base_image
from master.site.host import free_port
from master.site.owners import Owners
from master.site.package_sources import own_sources
from master.site.registry import Registry

STAGE = "docker"
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class NoDocker(UserError):
    """The docker stage cannot be had on this machine."""


def why_not(settings: Settings) -> str:
    """Why no engine and registry can be put beside a site with these settings; empty when they can."""
    stage = settings.stages.get(STAGE)
    if stage is None or stage.image is None or not isinstance(stage.image.login, LoginSettings):
        return f"its settings have no [stages.{STAGE}.image] with a login of user and secret"
    if not _trusted(settings):
        return "its settings have no trusted worker that is started here"
    return registry.why_not() or (engine.why_not() if os.geteuid() == 0 else _no_engine_of_ours())


@contextlib.contextmanager
def docker_beside(
    folder: Path, settings: Settings, owners: Owners, *, any_port: bool
) -> Iterator[tuple[Beside, Registry]]:
    """Both, running. ``folder`` keeps what they store; the registry's port is the settings', if it is free.

    Raises:
        NoDocker: with the reason.
        NoEngine: one of them did not start.
    """
    if reason := why_not(settings):
        raise NoDocker(f"--with-docker: {reason}", "leave it out: the stage is then skipped as unavailable")
    image = settings.stages[STAGE].image
    assert image is not None  # noqa: S101 - why_not has looked
    assert isinstance(image.login, LoginSettings)  # noqa: S101
    [worker] = _trusted(settings)[:1]
    folder.mkdir(exist_ok=True, mode=0o711)
    port = image.registry.rpartition(":")[2]
    wanted = int(port) if port.isdigit() else 0
    with contextlib.ExitStack() as stack:
        pushed = stack.enter_context(
            Registry(folder / "registry", image.login.user, free_port(0 if any_port else wanted))
        )
        base, ours, sources = "", None, folder / "sources.list"
        if os.geteuid() == 0:
            ours = stack.enter_context(Engine(folder / "engine", group=owners.trusted.gid if owners.trusted else 0))
            base = base_image(ours)
            files.write(sources, own_sources(), owners.trusted)
            environment = {name: ours.environment[name] for name in ("PATH", "DOCKER_HOST", "DOCKER_CONFIG")}
        else:
            environment = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
            environment["DOCKER_CONFIG"] = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
        files.folder(folder / "buildx", owners.trusted)  # buildx writes there
        environment["BUILDX_CONFIG"] = str(folder / "buildx")

        def failure() -> str:
            if ours is not None and ours.failed:
                return f"the Docker engine has ended; see {ours.folder / 'dockerd.log'}"
            return f"the registry has ended; see {pushed.folder / 'registry.log'}" if pushed.failed else ""

        beside = Beside(
            overrides=_overrides(image, pushed.address, base, sources),
            provides={worker: frozenset({"docker"})},
            environments={worker: environment},
            secrets={image.login.secret: pushed.password},
            failure=failure,
        )
        yield beside, pushed


def _overrides(image: ImageSettings, address: str, base: str, sources: Path) -> Mapping[str, str]:
    """The stage's settings that depend on this machine."""
    own = {"ca": _BUNDLE, **({"sources": sources} if base and sources.read_text() else {})}
    arguments = {**image.arguments, **({"BASE_IMAGE": base} if base else {})}
    secrets = {**{name: str(file) for name, file in own.items() if file.exists()}, **image.secrets}
    values = {"REGISTRY": address, "ARGUMENTS": _table(arguments), "SECRETS": _table(secrets)}
    return {f"MLC_CI_STAGES__{STAGE.upper()}__IMAGE__{name}": value for name, value in values.items()}


def _table(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"


def _trusted(settings: Settings) -> list[str]:
    return [name for name, worker in settings.workers.items() if worker.local and worker.trust == "trusted"]


def _no_engine_of_ours() -> str:
    for ask in (["docker", "version"], ["docker", "buildx", "version"]):
        try:
            done = subprocess.run(ask, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "without root, it takes an engine that you have, and there is no docker on the PATH"
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"without root, it takes an engine that you have, and {' '.join(ask)} says: {said}"
    return ""
