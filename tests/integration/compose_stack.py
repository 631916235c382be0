"""docker/compose.yaml for real, on a private engine: its own images built from the checkout, and stand-ins built from
the distribution's packages for the two that cannot be pulled (PostgreSQL's, and what the proxy's is made from)."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from sites import HERE, free_port, repository, toml

from master.site.engine import BASE_IMAGE, Engine

ROOT = HERE.parent.parent
DOCKER = ROOT / "docker"
STAND_INS = HERE / "stand_ins"
HOST = "ci.test.example"
SERVICES = ("master", "artifacts", "database", "proxy", "worker-trusted", "worker-untrusted")
_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_LAYERS = Path("/var/lib/mlc-ci/images/layers")  # beside the base image that engines are given


def build(engine: Engine, name: str, dockerfile: Path, context: Path, **arguments: str) -> None:
    """One image; its layers are kept between engines, so that packages are fetched once on a machine."""
    kept = _LAYERS / name.replace("/", "-").partition(":")[0]
    fresh = kept.with_name(f"{kept.name}.new")
    options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    _LAYERS.mkdir(parents=True, exist_ok=True)
    with kept.with_name(f"{kept.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(fresh, ignore_errors=True)  # of one that was killed
        if (kept / "index.json").exists():
            options.append(f"--cache-from=type=local,src={kept}")
        engine.docker(
            *("buildx", "build", "--network=host", f"--secret=id=ca,src={_CA}", "--provenance=false", *options),
            f"--cache-to=type=local,dest={fresh},mode=max,compression=uncompressed",
            f"--output=type=image,name={name},compression=uncompressed,unpack=true",
            f"--file={dockerfile}",
            str(context),
        )
        shutil.rmtree(kept, ignore_errors=True)
        fresh.rename(kept)


def build_all(engine: Engine) -> None:
    """What compose.yaml names, as :meth:`Stack.environment_file` says it."""
    base = {"BASE": BASE_IMAGE}
    build(engine, "stand-in/postgres:1", STAND_INS / "postgres.Dockerfile", STAND_INS, **base)
    build(engine, "stand-in/caddy:1", STAND_INS / "caddy.Dockerfile", STAND_INS, **base)
    build(engine, "test/proxy:1", DOCKER / "proxy" / "Dockerfile", DOCKER / "proxy", CADDY="stand-in/caddy:1")
    build(engine, "test/master:1", DOCKER / "master" / "Dockerfile", ROOT, **base)
    build(engine, "test/worker:1", DOCKER / "worker" / "Dockerfile", ROOT, **base)


class Stack:
    """One deployment, with everything that its administrator has made in ``folder``."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.site = folder / "site"
        self.repositories = folder / "repositories"
        self.https_port, self.http_port = free_port(), free_port()
        self._ports = {
            "HTTP": self.http_port,
            "HTTPS": self.https_port,
            "WORKERS": free_port(),
            "ARTIFACTS": free_port(),
        }
        self._numbers = itertools.count()

    def write(self, tables: Mapping[str, Any]) -> None:
        """What an administrator writes: names, settings; and a repository that the containers see."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        names = {name: f"test/{name}:1" for name in ("master", "worker", "proxy")} | {"database": "stand-in/postgres:1"}
        lines = [f"MLC_CI_HOST={HOST}", "MLC_CI_TLS=internal", f"MLC_CI_FOLDER={self.site}"]
        lines += [f"MLC_CI_URL=https://{HOST}:{self.https_port}", "MLC_CI_WORKERS_LISTEN=127.0.0.1"]
        lines += [f"MLC_CI_{name.upper()}_IMAGE={image}" for name, image in names.items()]
        lines += [f"MLC_CI_{name}_PORT={port}" for name, port in self._ports.items()]
        (folder / "env").write_text("\n".join(lines) + "\n")
        repository.create(self.repositories)
        (self.repositories / "gitconfig").write_text(
            "[safe]\n\tdirectory = *\n"
        )  # its owner is none of the containers'
        seen = [f"{self.repositories}:/repositories:ro", f"{self.repositories}/gitconfig:/etc/gitconfig:ro"]
        services = {name: {"volumes": seen} for name in ("master", "worker-trusted", "worker-untrusted")}
        (folder / "override.json").write_text(json.dumps({"services": services}))
        (self.site / "settings").mkdir(parents=True)
        (self.site / "settings").chmod(0o755)
        (self.site / "settings" / "settings.toml").write_text(toml(tables))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.engine.environment,
            "COMPOSE_FILE": f"{DOCKER / 'compose.yaml'}:{self.folder / 'override.json'}",
            "COMPOSE_ENV_FILES": str(self.folder / "env"),
            "COMPOSE_PROJECT_NAME": f"test{os.getpid()}",
        }

    def compose(self, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE) -> bytes:
        """Raises ``AssertionError`` with what compose said."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            env=self.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stderr.decode()[-3000:]}"
        return done.stdout or b""

    def prepare(self) -> None:
        """As docs/deploy.md says it."""
        done = subprocess.run(
            [DOCKER / "prepare.sh"], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def up(self) -> None:
        """Start what does not run, and wait until all of it is healthy."""
        self.compose("up", "--detach", "--wait", "--no-build")

    def down(self, *, volumes: bool) -> None:
        self.compose("down", "--timeout=20", *(["--volumes"] if volumes else []))

    def inspect(self, service: str) -> dict[str, Any]:
        number = self.compose("ps", "--all", "--quiet", service).decode().strip()
        found: dict[str, Any] = json.loads(self.engine.docker("inspect", number))[0]
        return found

    def execute(self, service: str, *command: str) -> bytes:
        return self.compose("exec", "-T", service, *command)

    def succeeds(self, service: str, *command: str) -> bool:
        done = subprocess.run(
            ["docker", "compose", "exec", "-T", service, *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    # -- from outside, through the proxy

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """Trusts the proxy's own authority, and nothing else; asks for the host by its name."""
        authority = self.execute("proxy", "cat", "/data/caddy/pki/authorities/local/root.crt").decode()
        trust = ssl.create_default_context(cadata=authority)
        with httpx.Client(
            base_url=f"https://127.0.0.1:{self.https_port}",
            headers={"Host": f"{HOST}:{self.https_port}"},
            verify=trust,
            trust_env=False,
            timeout=60,
        ) as client:
            client.event_hooks = {"request": [_by_name]}
            yield client

    def get(self, path: str) -> Any:
        with self.browser() as client:
            return client.get(path).raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/plugins/mlc_ci/api/runs?limit=50")["runs"]
        return found

    def run_of(self, head: str) -> dict[str, Any]:
        """The run of a commit, once there is one, as the page shows it."""
        number = wait(lambda: [run["id"] for run in self.runs() if run["head"] == head], f"a run of {head}")[0]
        found: dict[str, Any] = self.get(f"/plugins/mlc_ci/api/runs/{number}")
        return found

    def ended(self, head: str) -> dict[str, Any]:
        """The run of a commit, once it has ended."""
        return wait(
            lambda: found if (found := self.run_of(head))["ended_at"] else None, f"the end of the run of {head}"
        )

    def push(self, files: Mapping[str, str]) -> str:
        pushed = repository.push(self.repositories, files=files)
        return str(pushed["after"])


def _by_name(request: httpx.Request) -> None:
    request.extensions = {**request.extensions, "sni_hostname": HOST}


def wait(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Until it gives something; a page that is away meanwhile is asked again."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if found := condition():
                return found
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
