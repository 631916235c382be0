"""Containers that workers run in, by Docker's API: started locked down, looked at, removed. Everything here blocks.

A container gets its name, address and password as files in a volume of its own, put there before it starts: nothing
of them is in its environment, which ``docker inspect`` shows to whoever may ask the engine. It can change nothing but
that volume and a ``/tmp`` in memory; both are gone with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import requests
from docker.api import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.tls import TLSConfig
from docker.types import DeviceRequest

from master.settings_containers import INSIDE, ContainerSettings
from workers.probe.facts import WITHIN, one_line

MASTER, LIFE, WORKER = "mlc-ci.master", "mlc-ci.life", "mlc-ci.worker"  #: labels of every container that is ours
_ANSWERS_IN_S = 30  #: the engine's patience with us, and ours with it
_HEARS_IN_S = (0.2, 0.4, 0.8)  #: pauses between questions, until what the kernel did is known to the engine
_WORDS = 40  #: lines of a container that are kept of what it said
_TOLD = 3  #: lines of them that fit into a reason
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \S+ \[\S+\] ")  # of a worker's log
_CAPABILITIES = ["gpu", "compute", "utility", "graphics"]  #: what a leased GPU is for
_TMP = "rw,exec,nosuid,nodev,mode=1777"


class ContainerFailed(Exception):
    """A container did not become a worker, or said nothing that can be used.

    ``reason`` is one line for the page, with the end of what the container said; ``said`` is more of that.
    """

    def __init__(self, reason: str, said: Sequence[str] = ()) -> None:
        telling = [_STAMP.sub("", line) for line in said if " object at 0x" not in line]
        told = "; ".join(telling[-_TOLD:])
        self.reason = one_line(f"{reason}; it said: {told}" if told else reason, 400)
        self.said = tuple(said)
        super().__init__("\n".join([self.reason, *said]))


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose containers: of which master (it survives its restarts), and of which life of it."""

    master: str
    life: str

    def labels(self, worker: str) -> dict[str, str]:
        return {MASTER: self.master, LIFE: self.life, WORKER: worker}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One container. ``files``: of the worker's folder, by name; ``gpus``: by the id that NVML gives them."""

    worker: str
    files: Mapping[str, str] = field(repr=False)
    gpus: Sequence[str] = ()


class Containers:
    """The containers of one worker.

    Every method raises :class:`ContainerFailed`, with what to do, for whatever the engine says.
    """

    def __init__(self, settings: ContainerSettings, owner: Owner) -> None:
        self.settings = settings
        self.owner = owner

    def start(self, wanted: Wanted) -> str:
        """Start one; its id. What an earlier one of the same worker left is removed before."""
        with self._engine() as engine:
            self._remove(engine, {WORKER: wanted.worker})
            name = f"mlc-ci-{self.owner.master}-{wanted.worker}"
            made = self._create(engine, name, wanted.worker, ["start", str(INSIDE)], wanted.gpus)
            try:
                engine.put_archive(made, str(INSIDE), archive(wanted.files, self.settings.user))
                engine.start(made)
            except BaseException:
                with contextlib.suppress(DockerException, requests.RequestException):
                    engine.remove_container(made, v=True, force=True)
                raise
            return made

    def trouble(self, container: str) -> ContainerFailed | None:
        """Why it runs no more; ``None`` while it does."""
        with self._engine() as engine:
            try:
                state = engine.inspect_container(container)["State"]
            except NotFound:
                return ContainerFailed("its container was removed by somebody else")
            if state["Running"]:
                return None
            how = "it ran out of memory" if state.get("OOMKilled") else f"exit code {state.get('ExitCode')}"
            return ContainerFailed(f"its container ended ({how}) before it connected", _words(engine, container))

    def ran_out_of_memory(self, container: str) -> bool:
        """Whether something in it was killed because of its own limit. The engine hears of it a moment later."""
        with self._engine() as engine:
            for pause in (0.0, *_HEARS_IN_S):
                time.sleep(pause)
                if engine.inspect_container(container)["State"].get("OOMKilled"):
                    return True
        return False

    def words(self, container: str) -> list[str]:
        """The last lines that it said."""
        with self._engine() as engine:
            return _words(engine, container)

    def remove(self, container: str) -> None:
        """End it at once, with its volume; one that is gone already is no failure."""
        with self._engine() as engine, contextlib.suppress(NotFound):
            engine.remove_container(container, v=True, force=True)

    def sweep(self) -> list[str]:
        """Remove what earlier lives of this master left on the engine, whichever worker's; their names."""
        with self._engine() as engine:
            return self._remove(engine, {}, spared=self.owner.life)

    def probe(self, worker: str, seconds: float = 60) -> str:
        """What the image says of itself and of its host (``mlc-ci-worker probe --json``), without a network."""
        with self._engine() as engine:
            name = f"mlc-ci-{self.owner.master}-{worker}-probe"
            with contextlib.suppress(NotFound):
                engine.remove_container(name, v=True, force=True)
            made = self._create(engine, name, worker, ["probe", "--json"], ["all"], network="none", probe=True)
            try:
                engine.start(made)
                code = engine.wait(made, timeout=seconds)["StatusCode"]
                if code:
                    raise ContainerFailed(f"its image cannot be probed (exit code {code})", _words(engine, made))
                return bytes(engine.logs(made, stdout=True, stderr=False)).decode("utf-8", "replace")[: WITHIN.size + 1]
            finally:
                with contextlib.suppress(DockerException, requests.RequestException):
                    engine.remove_container(made, v=True, force=True)

    # -- the engine

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Any]:
        own, where = self.settings, self.settings.docker_host
        try:
            client = APIClient(base_url=where, version="auto", timeout=_ANSWERS_IN_S, tls=_tls(own.docker_tls))
        except (DockerException, requests.RequestException, OSError) as error:
            raise ContainerFailed(f"the Docker engine at {where} does not answer: {_short(error)}") from None
        try:
            yield client
        except ImageNotFound:
            raise ContainerFailed(f"image {own.image!r} is not on {where}: build it there, or pull it") from None
        except APIError as error:
            raise ContainerFailed(f"the Docker engine at {where} refused: {_short(error)}") from None
        except (DockerException, requests.RequestException, OSError) as error:
            raise ContainerFailed(f"the Docker engine at {where} does not answer: {_short(error)}") from None
        finally:
            client.close()

    def _remove(self, engine: Any, labels: Mapping[str, str], spared: str = "") -> list[str]:
        ours = {MASTER: self.owner.master, **labels}
        wanted = {"label": [f"{name}={value}" for name, value in ours.items()]}
        removed = []
        for found in engine.containers(all=True, filters=wanted):
            if not spared or found["Labels"].get(LIFE) != spared:
                with contextlib.suppress(NotFound):
                    engine.remove_container(found["Id"], v=True, force=True)
                removed.append(found["Names"][0].lstrip("/"))
        return removed

    def _create(
        self,
        engine: Any,
        name: str,
        worker: str,
        command: list[str],
        gpus: Sequence[str],
        *,
        network: str = "",
        probe: bool = False,
    ) -> str:
        own = self.settings
        labels = {MASTER: self.owner.master, LIFE: self.owner.life} if probe else self.owner.labels(worker)
        made = engine.create_container(
            own.image,
            entrypoint=["mlc-ci-worker"],
            command=command,
            name=name,
            user=own.user,
            working_dir=str(INSIDE),
            environment={"HOME": str(INSIDE), "USER": "worker", "LOGNAME": "worker"},
            labels=labels,
            volumes=[str(INSIDE)],
            healthcheck={"test": ["NONE"]},
            host_config=engine.create_host_config(
                binds=self._binds(worker, probe=probe),
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                tmpfs={"/tmp": _TMP},  # noqa: S108 - the container's own
                mem_limit=own.memory,
                memswap_limit=own.memory,
                nano_cpus=int(own.cpus * 1e9) if own.cpus else None,
                pids_limit=own.processes,
                network_mode=network or own.network,
                init=True,
                log_config={"type": "json-file", "config": {"max-size": "5m", "max-file": "1"}},
                device_requests=self._devices(gpus),
            ),
        )
        return str(made["Id"])

    def _binds(self, worker: str, *, probe: bool) -> list[str]:
        binds = [f"{outside}:{inside}:ro" for inside, outside in self.settings.mounts.items()]
        if self.settings.caches and not probe:
            binds.append(f"mlc-ci-{self.owner.master}-{worker}-caches:{INSIDE / 'cache'}:rw")
        return binds

    def _devices(self, gpus: Sequence[str]) -> list[Any]:
        if not self.settings.gpus or not gpus:
            return []
        which: dict[str, Any] = {"count": -1} if list(gpus) == ["all"] else {"device_ids": list(gpus)}
        return [DeviceRequest(**which, capabilities=[_CAPABILITIES])]


def worker_files(name: str, password: str, *, host: str, port: int, tls: bool, ca: Path | None) -> dict[str, str]:
    """The worker's folder, as ``mlc-ci-worker start`` reads it, for one connection."""
    config = {"name": name, "host": host, "port": port, "tls": tls, "once": True}
    files = {"worker.json": json.dumps(config), "password": password}
    return files | ({"ca.pem": ca.read_text()} if ca else {})


def archive(files: Mapping[str, str], user: str) -> bytes:
    """As a tar, readable by that user alone, whose the folder itself becomes, and the one for caches in it."""
    uid, gid = (int(number) for number in user.split(":"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("./", "cache/"):
            tar.addfile(_entry(folder, uid, gid, kind=tarfile.DIRTYPE, mode=0o700))
        for name, text in files.items():
            data = text.encode()
            tar.addfile(_entry(name, uid, gid, size=len(data), mode=0o600), io.BytesIO(data))
    return packed.getvalue()


def _entry(
    name: str, uid: int, gid: int, *, mode: int, kind: bytes = tarfile.REGTYPE, size: int = 0
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.uid, entry.gid, entry.mode, entry.type, entry.size = uid, gid, mode, kind, size
    return entry


def _tls(folder: str) -> Any:
    if not folder:
        return False
    place = PurePosixPath(folder)
    pair = (str(place / "cert.pem"), str(place / "key.pem"))
    return TLSConfig(client_cert=pair, ca_cert=str(place / "ca.pem"), verify=True)


def _words(engine: Any, container: str) -> list[str]:
    with contextlib.suppress(DockerException, requests.RequestException):
        said = bytes(engine.logs(container, stdout=True, stderr=True, tail=_WORDS))
        return [one_line(line) for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return []


def _short(error: Exception) -> str:
    return one_line(str(getattr(error, "explanation", None) or error), 300)
