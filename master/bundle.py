"""What a worker host needs to join: one file, made here, read there by ``mlc-ci-worker join``.

A bundle is a JSON object: ``mlc_ci_worker`` (the format's number), ``name``, ``host``, ``port``, ``tls``, ``ca`` (PEM
of what to trust; empty: what the system trusts) and ``password``. Whoever has it can play that worker.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from master.check_wire import LOOPBACK
from master.errors import UserError
from master.places import PORTS, SECRETS, SETTINGS, password_name
from master.settings import load, parse
from master.settings_models import MasterSettings, read_secret
from master.settings_problems import SettingsError
from master.tls import write_private
from master.worker_port import chain_for

FORMAT = 1


class CannotAdd(UserError):
    """``mlc-ci worker add`` could not make what it was asked for."""

    exit_code = 8


def basedir_of(folder: Path) -> Path:
    """The master's own folder: this one, or ``master`` below it, as ``mlc-ci up`` makes it.

    Raises:
        CannotAdd: there is no master, or its settings may not be read.
    """
    try:
        for basedir in (folder / "master", folder):
            if (basedir / SETTINGS).exists():
                return basedir
    except PermissionError:
        raise CannotAdd(f"{folder} may not be read", "run it as the master's user, or as root") from None
    raise CannotAdd(f"there is no master in {folder}", "start one with ci/up, or name its folder with --folder")


def table(name: str, *, trust: str, os_name: str, provides: Sequence[str], max_builds: int) -> str:
    """The worker's table in the settings."""
    lines = [f"[workers.{name}]", f"trust = {json.dumps(trust)}"]
    lines += [f"os = {json.dumps(os_name)}"] if os_name != "linux" else []
    lines += [f"provides = {json.dumps(list(provides))}"]
    lines += [f"max_builds = {max_builds}"] if max_builds != 1 else []
    return "\n".join(lines) + "\n"


def configured(basedir: Path, name: str) -> bool:
    """Whether the settings have the worker. Raises :class:`SettingsError` for what is wrong with them."""
    return name in load(basedir / SETTINGS).workers


def would_fit(basedir: Path, added: str) -> str:
    """The settings with a table added at their end.

    Raises:
        SettingsError: with what would be wrong then.
    """
    text = (basedir / SETTINGS).read_text(encoding="utf-8").rstrip("\n") + "\n\n" + added
    examined = parse(text, file=str(basedir / SETTINGS), environ=os.environ)
    if examined.errors:
        raise SettingsError(examined.errors)
    return text


def add_table(basedir: Path, text: str) -> None:
    """Replace the settings by a text from :func:`would_fit`, at once, keeping whose they are."""
    write_private(basedir / SETTINGS, text.encode())


def make(basedir: Path, name: str, host: str = "") -> dict[str, object]:
    """A bundle for the worker; its password is made when there is none yet, and so are the certificates.

    Raises:
        CannotAdd: workers could not reach the master, or would refuse it, under this host name; or it is a container.
        TlsUnusable, SecretUnreadable, SettingsError: what the master has cannot be used.
    """
    settings = load(basedir / SETTINGS)
    if name in settings.workers and settings.workers[name].container:
        raise CannotAdd(f"the worker {name!r} is a container", "the master starts one for each build")
    master = settings.master
    where = _tls_place(master, host) if master.worker_tls else _plain_place(basedir, master, host)
    ca = ""
    if master.worker_tls and (authority := chain_for(master, basedir).ca):
        ca = authority.read_text()
    return {"mlc_ci_worker": FORMAT, "name": name, **where, "ca": ca, "password": _password(basedir, name)}


def write(bundle: dict[str, object], path: Path) -> None:
    """Write a bundle to a new file, readable by its owner alone.

    Raises:
        CannotAdd: the file is there already, or cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise CannotAdd(f"{path} is there already", "delete it, or name another file with --output") from None
    except OSError as error:
        raise CannotAdd(f"{path} cannot be written: {error.strerror}", "name another file with --output") from None
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(bundle, indent=2) + "\n")


def _tls_place(master: MasterSettings, host: str) -> dict[str, object]:
    chosen = host or master.worker_host[0]
    known = {each.lower() for each in master.worker_host}
    if chosen.lower() not in known:
        raise CannotAdd(
            f"the master's certificate is not for {chosen!r}, so the worker would refuse it",
            f"choose one of {', '.join(master.worker_host)}, or add it to worker_host under [master]",
        )
    return {"host": chosen, "port": master.worker_port, "tls": True}


def _plain_place(basedir: Path, master: MasterSettings, host: str) -> dict[str, object]:
    if host and host not in LOOPBACK:
        raise CannotAdd(
            f"without TLS, {host!r} cannot be reached from other hosts: the port is on the loopback interface only",
            'set worker_listen = "0.0.0.0", worker_tls = true and worker_host = ["NAME OR ADDRESS"] under [master]',
        )
    return {"host": host or master.worker_listen, "port": _plain_port(basedir, master), "tls": False}


def _plain_port(basedir: Path, master: MasterSettings) -> int:
    """The running master's port: settings may leave it open."""
    try:
        return int(json.loads((basedir / PORTS).read_text())["worker"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if master.worker_port:
        return master.worker_port
    raise CannotAdd("the master's worker_port is 0, and it does not run", "start it, or set a port under [master]")


def _password(basedir: Path, name: str) -> str:
    folder, secret = basedir / SECRETS, password_name(name)
    if not (folder / secret).exists():
        try:
            write_private(folder / secret, f"{secrets.token_urlsafe(24)}\n".encode())
        except OSError as error:
            hint = "start the master once, and run this as its user or as root"
            raise CannotAdd(f"{folder / secret} cannot be written: {error.strerror}", hint) from None
    return read_secret(folder, secret)
