"""A Docker engine of our own: a private dockerd in a folder, on a socket and a bridge of its own, that leaves the
machine's own engine and its firewall alone. ``iptables`` is needed all the same: rules inside a container's own network
let it ask for other containers by name.

    with Engine(folder) as engine:
        subprocess.run(["docker", "run", "--rm", base_image(engine), "true"], env=engine.environment)

A small shell stands between us and dockerd. It ends dockerd when we die, however we die, and takes along what dockerd
leaves behind: its bridge, its mounts, its socket. Containers have no way out of the machine (no firewall rule is made);
what must fetch something uses the host's network (``--network host``).
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from master.errors import UserError
from master.site.package_sources import own_sources, release, usual_sources
from master.site.process import Process

TOOLS = Path("/var/lib/mlc-ci/docker")  #: where ci/prepare.sh unpacks an engine on machines that have none
BASE_IMAGE = "mlc-ci.local/base:latest"  #: what :func:`base_image` calls the image it makes
_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "docker-init", "iptables", "ip", "setpriv")
_BRIDGES = ipaddress.IPv4Network("172.31.0.0/16")
_START_S = 60.0
_POLL_S = 0.05
#: Arguments: the bridge, its address, the folder for sockets, the network of all its bridges, then dockerd and its
#: arguments. A dockerd that is killed leaves the bridges of its networks too, and what hangs on them.
_SUPERVISOR = """\
bridge=$1 address=$2 run=$3 network=$4; shift 4
clean() {
    ip -o -4 addr show to "$network" type bridge | awk '{ print $2 }' | while read -r each; do
        ip -o link show master "$each" | awk -F '[ :@]+' '{ print $2 }' | xargs -rn 1 ip link del
        ip link del "$each"
    done
    ip link del "$bridge" 2>/dev/null
    awk -v run="$run/" 'index($5, run) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
    rm -rf --one-file-system "$run"
}
trap clean EXIT
ip link add "$bridge" type bridge && ip addr add "$address" dev "$bridge" && ip link set "$bridge" up || exit 1
setpriv --pdeathsig TERM -- "$@" & child=$!
trap 'kill -TERM $child' TERM INT HUP
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code
"""


class NoEngine(UserError):
    """A Docker engine could not be had or started."""


def tools_path(tools: Path | None = None) -> str:
    """The PATH with which an engine's programs are found: the machine's own, then what was unpacked."""
    places = [str(p) for p in ((tools or TOOLS) / "usr/sbin", (tools or TOOLS) / "usr/bin") if p.is_dir()]
    machine = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    # a bare docker client in front of a whole engine would hide the engine's own
    return os.pathsep.join([*places, *machine])


def why_not(tools: Path | None = None) -> str:
    """Why this machine cannot run a private engine and make a base image for it; empty when it can."""
    if sys.platform != "linux":
        return "a private Docker engine needs Linux"
    if os.geteuid() != 0:
        return "a private Docker engine needs root"
    path = tools_path(tools)
    missing = [program for program in (*_PROGRAMS, "mmdebstrap") if not shutil.which(program, path=path)]
    if missing:
        return f"a private Docker engine needs {', '.join(missing)}, which this machine has not"
    if not _has_buildx(path, tools):
        return "a private Docker engine needs docker's buildx plugin, which this machine has not"
    return ""


class Engine:
    """A private dockerd, as a context manager.

    Args:
        folder: made when it is not there; holds the images (``data``), the client's settings (``client``), the log.
        tools: where the programs were unpacked; by default :data:`TOOLS`, if it is there.
        group: the number of the group that may use the socket: root on this machine, to be given away with care.
        insecure: registries (``HOST:PORT``) that speak plain HTTP; those on loopback need no mention.

    Attributes:
        host: ``unix://…``, for ``DOCKER_HOST`` and ``DockerLatentWorker``.
        environment: what docker's client needs: ``PATH``, ``DOCKER_HOST``, ``DOCKER_CONFIG`` (with the buildx plugin).
    """

    def __init__(
        self, folder: Path, tools: Path | None = None, *, group: int = 0, insecure: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.tools = tools or (TOOLS if TOOLS.is_dir() else None)
        self.group = group
        self.insecure = insecure
        self.host = ""
        self._process: Process | None = None

    @property
    def client(self) -> Path:
        """The folder of the client's settings; to log in, copy it: its ``config.json`` names the plugins."""
        return self.folder / "client"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDX_"))},
            "PATH": tools_path(self.tools),
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.client),
        }

    @property
    def pid(self) -> int | None:
        """Of the process that holds the engine; ``None`` when it does not run."""
        return self._process.pid if self._process else None

    @property
    def failed(self) -> bool:
        """Whether it has ended although nobody stopped it."""
        return self._process is not None and self._process.exit_code is not None

    def docker(self, *arguments: str, input: str = "") -> str:
        """Runs docker's client; its output.

        Args:
            input: what it reads: a password.

        Raises:
            NoEngine: with what it said.
        """
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, input=input, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NoEngine(f"docker {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def __enter__(self) -> Engine:
        """Starts it and waits until it answers.

        Raises:
            NoEngine: it cannot run here, or did not become ready.
        """
        if reason := why_not(self.tools):
            raise NoEngine(reason)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._write_client()
        run = Path(tempfile.mkdtemp(prefix="mlc-ci-engine-", dir="/run"))  # short: a socket's path has 107 characters
        run.chmod(0o711)
        self.host = f"unix://{run}/docker.sock"
        bridge = f"mlcci{secrets.token_hex(4)}"
        log = self.folder / "dockerd.log"
        config = self.folder / "daemon.json"
        network = _free_network()
        config.write_text(json.dumps(self._configuration(run, bridge, network), indent=2) + "\n")
        first = next(network.subnets(new_prefix=24))
        address = f"{first[1]}/{first.prefixlen}"
        dockerd = ["dockerd", "--host", self.host, "--config-file", str(config.absolute())]
        self._process = Process(
            name="docker engine",
            command=["sh", "-c", _SUPERVISOR, "engine", bridge, address, str(run), str(network), *dockerd],
            log=log,
            environment={**self.environment, "DOCKER_HOST": ""},
        )
        self._process.start()
        try:
            self._wait(log)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Ends its containers and then itself; the folder stays, for the next start."""
        if self._process:
            self._process.stop()
            self._process = None

    def _configuration(self, run: Path, bridge: str, network: ipaddress.IPv4Network) -> Mapping[str, object]:
        return {
            "features": {"containerd-snapshotter": True},
            "data-root": str(self.folder.absolute() / "data"),
            "exec-root": str(run / "exec"),
            "pidfile": str(run / "dockerd.pid"),
            "group": str(self.group),
            "bridge": bridge,
            "default-address-pools": [{"base": str(n), "size": 26} for n in list(network.subnets(new_prefix=24))[1:]],
            "iptables": False,
            "ip6tables": False,
            "ip-masq": False,
            "ip-forward": False,
            "userland-proxy": True,
            "shutdown-timeout": 5,
            "insecure-registries": list(self.insecure),
            "log-level": "warn",
        }

    def _write_client(self) -> None:
        self.client.mkdir(exist_ok=True, mode=0o755)
        settings: dict[str, object] = {}
        if self.tools and (plugins := self.tools / "usr/libexec/docker/cli-plugins").is_dir():
            settings["cliPluginsExtraDirs"] = [str(plugins)]
        (self.client / "config.json").write_text(json.dumps(settings) + "\n")

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + _START_S
        ask = ["docker", "version", "--format", "{{.Server.Version}}"]
        while subprocess.run(ask, env=self.environment, capture_output=True, check=False).returncode != 0:
            if self.failed and self._process:
                raise NoEngine(f"the Docker engine did not start:\n{self._process.last_words()}", f"see {log}")
            if time.monotonic() > until:
                raise NoEngine(f"the Docker engine did not answer within {_START_S:g} s", f"see {log}")
            time.sleep(_POLL_S)


def base_image(engine: Engine, cache: Path | None = None) -> str:
    """A small Debian in the engine, made from the machine's own package sources and not pulled; its name.

    Args:
        cache: where the tar is kept that it is imported from; made once, also when several ask at the same time.

    Raises:
        NoEngine: it could not be made.
    """
    if not engine.docker("image", "ls", "--quiet", BASE_IMAGE).strip():
        tar = base_tar(cache)
        engine.docker("import", "--change", 'CMD ["/bin/bash"]', str(tar), BASE_IMAGE)
    return BASE_IMAGE


def base_tar(cache: Path | None = None) -> Path:
    """The root file system of :func:`base_image`, as a tar in a folder.

    Raises:
        NoEngine: with what mmdebstrap said.
    """
    cache = cache or TOOLS.parent / "images"
    cache.mkdir(parents=True, exist_ok=True)
    _, codename = release()
    tar = cache / f"{codename}-1.tar"
    with (cache / f"{tar.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            part = tar.with_suffix(".part")
            done = _debootstrapped(codename, part)
            if done.returncode != 0:
                part.unlink(missing_ok=True)
                raise NoEngine(f"mmdebstrap could not make a base image: {done.stderr.strip()[-2000:]}")
            part.rename(tar)
    return tar


def _debootstrapped(codename: str, tar: Path) -> subprocess.CompletedProcess[str]:
    """From the machine's own mirrors, whose addresses are nobody else's: the image names those that everybody has."""
    words = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"]
    with tempfile.NamedTemporaryFile("w", suffix=".list") as usual:
        usual.write(usual_sources())
        usual.flush()
        own = own_sources() if usual.tell() else ""
        if own:
            words += [f"--customize-hook=upload {usual.name} /etc/apt/sources.list"]
        return subprocess.run(
            [*words, codename, str(tar), *(["-"] if own else [])],
            input=own,
            env={**os.environ, "PATH": tools_path()},
            capture_output=True,
            text=True,
            check=False,
        )


def _has_buildx(path: str, tools: Path | None) -> bool:
    if ((tools or TOOLS) / "usr/libexec/docker/cli-plugins/docker-buildx").exists():
        return True
    ask = ["docker", "buildx", "version"]
    return subprocess.run(ask, env={**os.environ, "PATH": path}, capture_output=True, check=False).returncode == 0


def _free_network() -> ipaddress.IPv4Network:
    """Addresses for an engine's bridges, none of which an interface of this machine has."""
    said = subprocess.run(["ip", "-json", "-4", "addr"], capture_output=True, check=True, text=True).stdout
    used = [
        ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
        for interface in json.loads(said)
        for address in interface["addr_info"]
    ]
    free = [net for net in _BRIDGES.subnets(new_prefix=22) if not any(net.overlaps(other) for other in used)]
    if not free:
        raise NoEngine(f"every network of {_BRIDGES} is in use: no bridge can be given an address")
    return secrets.choice(free)  # not the first: another engine may be looking at this very moment
