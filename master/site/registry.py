"""A registry of our own for images: Debian's docker-registry on loopback, behind a password."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from master.site.engine import NoEngine, tools_path
from master.site.process import Process

_PROGRAMS = ("docker-registry", "htpasswd")
_START_S = 30.0
_POLL_S = 0.05


def why_not() -> str:
    """Why this machine cannot run a registry; empty when it can."""
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=tools_path())]
    return f"a private registry needs {', '.join(missing)}, which this machine has not" if missing else ""


class Registry:
    """A private registry, as a context manager.

    Args:
        folder: made when it is not there; holds what was pushed, and the password of the user.
        user: who may read and write; nobody else may do either.
        port: of loopback; 0 takes a free one.

    Attributes:
        address: ``127.0.0.1:PORT``, as it stands before an image's name. Docker speaks plain HTTP to loopback.
    """

    def __init__(self, folder: Path, user: str = "ci", port: int = 0) -> None:
        self.folder = folder
        self.user = user
        self.port = port
        self._process: Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text(encoding="utf-8").strip()

    @property
    def failed(self) -> bool:
        """Whether it has ended although nobody stopped it."""
        return self._process is not None and self._process.exit_code is not None

    def __enter__(self) -> Registry:
        """Starts it and waits until it listens.

        Raises:
            NoEngine: it cannot run here, or did not start.
        """
        if reason := why_not():
            raise NoEngine(reason)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_password()
        log = self.folder / "registry.log"
        self.port = self.port or _free_port()
        settings = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "content")}, "delete": {"enabled": True}},
            "http": {"addr": self.address, "secret": secrets.token_hex(16)},
            "auth": {"htpasswd": {"realm": "mlc-ci", "path": str(self.folder / "htpasswd")}},
        }
        (self.folder / "registry.yml").write_text(json.dumps(settings, indent=2) + "\n")  # JSON is YAML
        self._process = Process(
            name="registry",
            command=["docker-registry", "serve", str(self.folder / "registry.yml")],
            log=log,
            environment={"PATH": tools_path(), "OTEL_TRACES_EXPORTER": "none"},
        )
        self._process.start()
        until = time.monotonic() + _START_S
        while not _listens(self.port):
            if self.failed or time.monotonic() > until:
                said = self._process.last_words()
                self.__exit__(None, None, None)
                raise NoEngine(f"the registry did not start:\n{said}", f"see {log}")
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process:
            self._process.stop()
            self._process = None

    def _write_password(self) -> None:
        kept = self.folder / "password"
        if not kept.exists():
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        hashed = subprocess.run(
            ["htpasswd", "-niB", self.user],
            input=self.password,
            env={"PATH": tools_path()},
            capture_output=True,
            text=True,
            check=True,
        )
        (self.folder / "htpasswd").write_text(hashed.stdout)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0
