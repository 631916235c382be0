"""``[workers.NAME.container]``: a worker that is a container, started for one build and gone after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BeforeValidator, Field

from master.settings_limits import Size
from master.settings_types import PositiveDuration, Switch, Table, Text, refused

HOST_NETWORK = "host"
INSIDE = PurePosixPath("/var/lib/mlc-ci-worker")  #: where the worker's folder is in its container
_GIB = 1 << 30
_USER = re.compile(r"[1-9][0-9]{0,8}:[1-9][0-9]{0,8}", re.ASCII)
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


def _docker_host(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"unix:///.+|tcp://[^/\s]+:[0-9]{1,5}", value):
        raise refused("is no address of a Docker engine", "unix:///PATH or tcp://HOST:PORT")
    return value


def _user(value: object) -> object:
    if isinstance(value, str) and not _USER.fullmatch(value):
        raise refused("is no user that builds may run as", '"UID:GID" in numbers, neither of them 0')
    return value


def _network(value: object) -> object:
    if isinstance(value, str) and (not _NETWORK.fullmatch(value) or value == "none"):
        raise refused("is no network over which a worker reaches its master", '"bridge", "host" or a network\'s name')
    return value


def _mounts(value: object) -> object:
    for inside, outside in value.items() if isinstance(value, Mapping) else ():
        for path in (inside, outside):
            if not isinstance(path, str) or not PurePosixPath(path).is_absolute() or ":" in path:
                raise refused(
                    f"{path!r} is no absolute path", "{ PATH INSIDE = PATH ON DOCKER'S HOST }, without colons"
                )
        if PurePosixPath(inside).is_relative_to(INSIDE) or inside == "/":
            raise refused(f"{inside!r} would hide the worker's own files", f"a path outside of {INSIDE}")
        if PurePosixPath(outside).name in ("docker.sock", "containerd.sock"):
            raise refused("a build that reaches an engine's socket is root on its host", "no engine's socket")
    return value


class ContainerSettings(Table):
    """What a worker's containers are made of. None of their limits can be left out altogether."""

    image: Text
    docker_host: Annotated[str, BeforeValidator(_docker_host)] = "unix:///var/run/docker.sock"
    docker_tls: str = ""  #: for ``tcp://``: a folder with ``ca.pem``, ``cert.pem`` and ``key.pem``
    network: Annotated[str, BeforeValidator(_network)] = "bridge"
    master: str = ""  #: this master's name or address, as a container reaches it; left out: derived
    user: Annotated[str, BeforeValidator(_user)] = "10001:10001"
    memory: Size = 8 * _GIB  #: of all that runs in it, with what it keeps in ``/tmp``
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  #: ``None``: all
    processes: Annotated[int, Field(strict=True, ge=16)] = 4096  #: and threads
    gpus: Switch = False  #: whether the host has GPUs of NVIDIA's to lend: a container gets those that its build leased
    mounts: Annotated[Mapping[str, str], BeforeValidator(_mounts)] = Field(default_factory=dict)  #: read-only
    caches: Switch = False  #: keep the compilers' caches from one build to the next, in a volume of this worker's
    start_timeout: PositiveDuration = 120.0  #: so long may a container take to connect

    @property
    def on_host(self) -> bool:
        """Whether it shares the network of docker's host."""
        return self.network == HOST_NETWORK
