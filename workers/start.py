"""``mlc-ci-worker start DIR``: one Buildbot worker, in the foreground, from ``DIR/worker.json`` and ``DIR/password``.

| file | holds |
|---|---|
| `worker.json` | `name`, `host`, `port`, `tls`, `once`; the master's `max_builds`; `environment`, `pass_environment` |
| `ca.pem` | with `tls`: whose certificates are trusted; without the file, those that the system trusts |
| `password` | the worker's password, readable by its owner alone |
| `worker.lock` | the process number of the worker that runs here |
| `info/` | facts about the host: each file goes to the master with the worker (`probe.json`: :mod:`workers.probe`) |
| `tmp/` | what builds leave in TMPDIR: this worker's own, emptied at each start |
| `cache/` | compilers', cargo's and pip's caches: its own, so that trusted and untrusted builds share none |

Builds get no variable of the caller's environment but those that :data:`PASSED` names and none that looks like a
secret: a worker started from an administrator's shell must not show its tokens to a pull request.

With ``once`` the worker serves one connection and ends with it, or when there is none in half a minute, and its
password is removed as soon as it has been used: so it is in a container that is started for one build.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import getpass
import json
import os
import platform
import shutil
import stat
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.errors import UsageError
from workers.info import tidied
from workers.probe.facts import FILE as PROBE

#: Variables of the caller that a build gets, as patterns. ``pass_environment`` in worker.json adds to them.
PASSED = tuple(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TERM LD_LIBRARY_PATH PKG_CONFIG_PATH
    *_PROXY *_proxy SSL_CERT_* *_CA_BUNDLE *_CA_CERTS NODE_EXTRA_CA_CERTS NIX_SSL_CERT_FILE GIT_SSL_*
    PIP_* UV_* PYENV_* CONDA_* CARGO_* RUSTUP_* CC CXX CUDA_* NVIDIA_* VULKAN_SDK VK_*
    """.split()  # noqa: SIM905 - a table reads better
)
#: Names that are never passed on by a pattern of :data:`PASSED`.
SECRETIVE = ("*TOKEN*", "*SECRET*", "*PASSW*", "*CREDENTIAL*", "*API_KEY*", "*PRIVATE*KEY*")
_KEYS = {
    "name": str,
    "host": str,
    "port": int,
    "tls": bool,
    "max_builds": int,
    "environment": dict,
    "pass_environment": list,
    "once": bool,
}


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker's folder says."""

    directory: Path
    name: str
    host: str
    port: int
    password: str = field(repr=False)
    tls: bool = False
    max_builds: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_environment: tuple[str, ...] = ()
    once: bool = False  #: one connection, and not to be let in again

    @property
    def ca(self) -> Path | None:
        """With TLS: what is trusted; ``None``: what the system trusts."""
        file = self.directory / "ca.pem"
        return file if file.exists() else None


def read_config(directory: Path) -> WorkerConfig:
    """Raises :class:`UsageError` for everything that is missing or wrong there."""
    file = directory / "worker.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f'{file} is missing: it says {{"name": …, "host": …, "port": …}}') from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} must hold one JSON object")
    for key, value in found.items():
        if key not in _KEYS:
            raise UsageError(f"{file}: unknown key {key!r}; known are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool) is not (_KEYS[key] is bool):
            raise UsageError(f"{file}: {key} is {value!r}, not {_NAMES[_KEYS[key]]}")
    for key in ("name", "host", "port"):
        if not found.get(key):
            raise UsageError(f"{file}: {key} is missing")
    if not 0 < found["port"] < 65536:
        raise UsageError(f"{file}: port is {found['port']}, not 1 … 65535")
    if found.get("max_builds", 1) < 1:
        raise UsageError(f"{file}: max_builds is {found['max_builds']}, not 1 or more")
    texts = [*found.get("environment", {}).values(), *found.get("pass_environment", [])]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{file}: environment and pass_environment hold text only")
    found["pass_environment"] = tuple(found.get("pass_environment", ()))
    return WorkerConfig(directory=directory, password=read_password(directory / "password"), **found)


_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def read_password(file: Path) -> str:
    """Raises :class:`UsageError` for a password that is missing, empty or readable by others."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"{file} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {file}")
    if not text:
        raise UsageError(f"{file} is empty")
    return text


def build_environment(config: WorkerConfig, caller: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker and so of every command of its builds."""
    kept = passed_on(caller, config.pass_environment)
    scripts = sysconfig.get_path("scripts")
    path = config.environment.get("PATH") or kept.get("PATH") or os.defpath
    cache = config.directory / "cache"
    return {
        "CCACHE_DIR": str(cache / "ccache"),
        "SCCACHE_DIR": str(cache / "sccache"),
        **kept,
        "CARGO_HOME": str(cache / "cargo"),  # cargo trusts what lies unpacked in its registry
        "PIP_CACHE_DIR": str(cache / "pip"),
        **({} if sys.platform == "win32" else {"TMPDIR": str(config.directory / "tmp")}),
        **config.environment,
        "PATH": os.pathsep.join((scripts, path)),
        "MLC_CI_WORKER_DIR": str(config.directory),
    }


def passed_on(caller: Mapping[str, str], also: tuple[str, ...] = ()) -> dict[str, str]:
    """What a worker takes over of its caller's environment; ``also``: further patterns."""
    if sys.platform == "win32":  # programs there need many variables of the system
        return {name: value for name, value in caller.items() if not _matches(name, SECRETIVE)}
    return {
        name: value
        for name, value in caller.items()
        if (_matches(name, PASSED) and not _matches(name, SECRETIVE)) or _matches(name, also)
    }


def shed_environment(config: WorkerConfig) -> None:
    """Begin this very process again, once, with nothing in its environment but what builds may see (not Windows).

    What a process was started with stays readable in ``/proc/PID/environ`` for all of its user's processes, whatever
    is made of ``os.environ`` since, and its children show the same until they execute something: a build would find it.
    """
    if sys.platform == "win32" or os.environ.pop(_SHED, "") == str(os.getpid()):
        return
    kept = passed_on(os.environ, (*config.pass_environment, *_INTERPRETER))
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**kept, _SHED: str(os.getpid())})  # noqa: S606 - what runs already


_SHED = "MLC_CI_WORKER_SHED"  # the process that has begun again
_INTERPRETER = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONUTF8")  # a worker may need these to run at all


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def fresh_temporary_folder(directory: Path) -> None:
    """An empty ``tmp/``: what the builds of an earlier life left there is of no use to anybody."""
    shutil.rmtree(directory / "tmp", ignore_errors=True)
    (directory / "tmp").mkdir(mode=0o700, exist_ok=True)


def write_info(config: WorkerConfig, version: str) -> None:
    """The files of ``info/``: each reaches the master as worker info under its name."""
    info = tidied(config.directory)
    facts = {
        "admin": f"{getpass.getuser()}@{platform.node()}",
        "host": f"{platform.node()}: {platform.platform()}, {platform.machine()}, {os.cpu_count()} CPUs",
        "python": f"{sys.executable} ({platform.python_version()})",
        "mlc_ci": version,
    }
    with contextlib.suppress(OSError):  # of an earlier life: nobody knows whether it is still true
        (info / PROBE).unlink()
    for name, fact in facts.items():
        (info / name).write_text(fact + "\n", encoding="utf-8")


@contextlib.contextmanager
def locked(directory: Path, patience: float = 3.0) -> Iterator[None]:
    """One worker per folder. ``patience`` (seconds) lets the remains of a killed one go. Raises :class:`UsageError`."""
    file = (directory / "worker.lock").open("a+", encoding="utf-8")
    until = time.monotonic() + patience
    while not _try_lock(file.fileno()):
        file.seek(0)
        owner = file.read().strip()
        if time.monotonic() > until or _alive(owner):
            file.close()
            raise UsageError(f"a worker already runs in {directory} (process {owner or 'unknown'}): stop it first")
        time.sleep(0.05)
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        file.close()


def _alive(owner: str) -> bool:
    if not owner.isdecimal() or sys.platform == "win32":
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the text: a locked byte cannot be read by others
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="the worker's folder: worker.json, password")


def main(options: argparse.Namespace) -> int:
    from workers.cli import version  # noqa: PLC0415 - it imports this module

    directory = Path(os.path.realpath(options.directory))
    config = read_config(directory)
    shed_environment(config)
    with locked(directory):
        os.umask(0o022)  # what builds make (wheels, images) must be readable where it is installed …
        with contextlib.suppress(PermissionError):
            directory.chmod(0o700)  # … and until then by nobody else
        for stale in ("twistd.pid",):
            (directory / stale).unlink(missing_ok=True)
        write_info(config, version())
        fresh_temporary_folder(config.directory)

        def worker() -> int:
            environment = build_environment(config, os.environ)
            os.environ.clear()
            os.environ.update(environment)
            from workers.attach import run  # noqa: PLC0415 - Twisted, after the fork

            return run(config)

        if sys.platform != "linux":
            return worker()
        from workers.supervise import run_supervised, sweep  # noqa: PLC0415 - Linux only

        if swept := sweep(str(directory)):
            print(f"mlc-ci-worker: killed {len(swept)} processes that an earlier life of this worker left", flush=True)
        return run_supervised(worker)
