"""Whether workers that are containers can be started, can reach this master, and stay what they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from master.check_wire import LOOPBACK
from master.settings_containers import ContainerSettings
from master.settings_models import Settings, WorkerSettings
from master.settings_problems import Problem
from workers.git import is_local


def container_problems(settings: Settings) -> Iterator[Problem]:
    for name, worker in settings.workers.items():
        if worker.container:
            yield from _kind(f"workers.{name}", worker)
            yield from _engine(f"workers.{name}.container", worker.container)
            yield from _reach(f"workers.{name}.container", settings, worker.container)
            yield from _shared_network(f"workers.{name}.container", worker, worker.container)


def _kind(key: str, worker: WorkerSettings) -> Iterator[Problem]:
    if worker.local:
        message = "a container is started for each build, and a local worker once by mlc-ci up"
        yield Problem(key=f"{key}.local", message=message, found="true, beside container", allowed="either")
    if worker.os != "linux":
        yield Problem(key=f"{key}.os", message="its containers are Linux ones", found=worker.os, allowed='"linux"')
    if worker.max_builds != 1:
        message, allowed = "a container serves one build", "1; more workers for more builds at once"
        yield Problem(key=f"{key}.max_builds", message=message, found=str(worker.max_builds), allowed=allowed)


def _engine(key: str, container: ContainerSettings) -> Iterator[Problem]:
    remote = container.docker_host.startswith("tcp://")
    if remote and not container.docker_tls:
        message = "whoever reaches this port is root on that host"
        allowed = "unix:///PATH, or docker_tls with the certificates"
        yield Problem(key=f"{key}.docker_host", message=message, found=container.docker_host, allowed=allowed)
    if container.docker_tls and not remote:
        message, allowed = "means nothing for a socket", "tcp://HOST:PORT as docker_host, or leave it out"
        yield Problem(
            key=f"{key}.docker_tls", message=message, found=container.docker_tls, allowed=allowed, severity="warning"
        )


def _reach(key: str, settings: Settings, container: ContainerSettings) -> Iterator[Problem]:
    master, artifacts = settings.master, settings.artifacts
    beside = container.on_host and container.docker_host.startswith("unix://") and not container.master
    if not beside and not master.worker_tls:
        message = "its containers reach this master over a network only, and it listens on loopback only"
        allowed = 'worker_tls = true under [master], or network = "host" with an engine on this machine'
        yield Problem(key=f"{key}.network", message=message, found=container.network, allowed=allowed)
    elif not beside and artifacts.listen in LOOPBACK:
        message = f"containers of {key} could not reach it to upload"
        yield Problem(key="artifacts.listen", message=message, found=artifacts.listen, allowed="where workers listen")
    if container.master and master.worker_tls and container.master not in master.worker_host:
        message, allowed = "the certificate is not for it", "one of master.worker_host, or that name added there"
        yield Problem(key=f"{key}.master", message=message, found=container.master, allowed=allowed)
    repository = settings.project.repository
    if is_local(repository) and not _mounted(repository, container):
        message = "its containers do not see the repository, which is a path of this machine"
        allowed = f'mounts = {{ "{repository}" = "{repository}" }}, or a repository that has an URL'
        yield Problem(key=f"{key}.mounts", message=message, found=repository, allowed=allowed)


def _mounted(repository: str, container: ContainerSettings) -> bool:
    path = PurePosixPath(repository.removeprefix("file://"))
    return any(path.is_relative_to(inside) for inside in container.mounts)


def _shared_network(key: str, worker: WorkerSettings, container: ContainerSettings) -> Iterator[Problem]:
    if container.on_host and worker.trust == "untrusted":
        message = "builds of strangers would reach whatever listens on that host's loopback"
        allowed = '"bridge" or a network of its own, with worker_tls'
        yield Problem(key=f"{key}.network", message=message, found="host", allowed=allowed, severity="warning")
