"""``mlc-ci-worker join BUNDLE DIR``: a worker's folder from what ``mlc-ci worker add`` made on the master.

Doing it again changes nothing, except what a newer bundle says; other keys of ``worker.json`` stay.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from workers.errors import UsageError

FORMAT = 1
_KEYS = {"mlc_ci_worker": int, "name": str, "host": str, "port": int, "tls": bool, "ca": str, "password": str}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}", re.ASCII)


def read_bundle(path: Path) -> dict[str, Any]:
    """Raises :class:`UsageError` for what is no bundle, or one of another format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or "mlc_ci_worker" not in found:
        raise UsageError(f"{path} is no bundle of mlc-ci worker add")
    if found["mlc_ci_worker"] != FORMAT:
        raise UsageError(
            f"{path} is a bundle of format {found['mlc_ci_worker']!r}, this version reads {FORMAT}: "
            "install the master's version here"
        )
    for key, kind in _KEYS.items():
        if type(found.get(key)) is not kind:
            raise UsageError(f"{path}: {key} is missing, or of the wrong kind")
    if unknown := sorted(found.keys() - _KEYS):
        raise UsageError(f"{path}: unknown key {unknown[0]!r}")
    if not _NAME.fullmatch(found["name"]) or not found["host"] or not found["password"]:
        raise UsageError(f"{path}: name, host or password is empty or not allowed")
    if not 0 < found["port"] < 65536:
        raise UsageError(f"{path}: port is {found['port']}, not 1 … 65535")
    return found


def join(bundle: dict[str, Any], directory: Path) -> bool:
    """Make or update a worker's folder; whether anything in it changed.

    Raises:
        UsageError: the folder is another worker's, or cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _kept(directory / "worker.json", bundle["name"])
        config = {**kept, "name": bundle["name"], "host": bundle["host"], "port": bundle["port"], "tls": bundle["tls"]}
        changed = _write(directory / "password", bundle["password"] + "\n")
        if bundle["ca"]:
            changed |= _write(directory / "ca.pem", bundle["ca"])
        elif (directory / "ca.pem").exists():
            (directory / "ca.pem").unlink()
            changed = True
        return _write(directory / "worker.json", json.dumps(config, indent=2) + "\n") or changed
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error}") from error


def _kept(file: Path, name: str) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} cannot be read: delete it, or choose another folder")
    if found.get("name") != name:
        raise UsageError(
            f"{file.parent} belongs to the worker {found.get('name')!r}: choose another folder for {name!r}"
        )
    return found


def _write(path: Path, text: str) -> bool:
    """Readable by its owner alone; False when the file already is just that."""
    try:
        if path.read_text(encoding="utf-8") == text and not path.stat().st_mode & 0o077:
            return False
    except (OSError, ValueError):
        pass
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="the file that `mlc-ci worker add` wrote on the master")
    parser.add_argument("directory", type=Path, help="the worker's folder, made when it is not there")


def main(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    changed = join(bundle, options.directory)
    how = "over TLS" if bundle["tls"] else "in plain text"
    where = f"{bundle['host']} port {bundle['port']}, {how}"
    print(f"{options.directory}: worker {bundle['name']}, of {where}{'' if changed else ' (as it was)'}")
    return 0
