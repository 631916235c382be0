"""``mlc-ci-worker stamp``: runs a checkout's version script, and refuses a tag's build that is stamped otherwise.

Version scripts fall back to something harmless when git tells them nothing (MLC-LLM's writes ``0.1.dev0`` and ends
well), which is how wheels with wrong versions get published.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from workers.errors import CodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", type=Path, default=Path(), help="where pyproject.toml is (default: here)")
    parser.add_argument("--script", type=Path, help="run this first")
    parser.add_argument("--tag", default="", help="the version must be this tag's")
    parser.add_argument("--local", default="", metavar="X", help="then make it VERSION+X: one of several builds")


def stamped(directory: Path) -> str | None:
    """``project.version`` of the folder's ``pyproject.toml``; None where that does not say it."""
    file = directory / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CodeError(f"{file} cannot be read: {error}") from error
    version = project.get("version") if isinstance(project, dict) else None
    return version if isinstance(version, str) else None


def require_version(found: str, tag: str) -> None:
    """Raises :class:`CodeError` unless the version is the tag's, both normalised (PEP 440)."""
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - not stdlib

    try:
        wanted = Version(tag)
    except InvalidVersion:
        raise CodeError(f"tag {tag} is no version (PEP 440): it cannot be released") from None
    try:
        same = Version(found) == wanted
    except InvalidVersion:
        raise CodeError(f"the stamped version {found!r} is no version (PEP 440)") from None
    if not same:
        raise CodeError(
            f"tag {tag} was stamped as version {found}, not {wanted}: look at what the version script said above"
        )


def add_local(directory: Path, version: str, local: str) -> str:
    """Append a local version (PEP 440) to ``project.version``, which must be written in one line."""
    file = directory / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    line = re.compile(rf"""^(\s*version\s*=\s*(["'])){re.escape(version)}(\2)""", re.MULTILINE)
    longer, count = line.subn(lambda match: f"{match[1]}{version}+{local}{match[3]}", text)
    if count != 1 or "+" in version:
        raise CodeError(f"{file} has {count} lines version = {version!r}: +{local} can be added to exactly one")
    file.write_text(longer, encoding="utf-8")
    return f"{version}+{local}"


def main(options: argparse.Namespace) -> int:
    if options.script:
        if not options.script.is_file():
            raise CodeError(f"there is no version script {options.script}")
        command = [sys.executable, str(options.script)]
        code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
        if code:
            raise CodeError(f"the version script {options.script} ended with exit code {code}")
    version = stamped(options.directory)
    if version is None:
        if options.local:
            raise CodeError(f"pyproject.toml says no fixed version, to which +{options.local} could be added")
        print("pyproject.toml says no fixed version: the wheel's own is checked once it is built", flush=True)
        return 0
    print(f"version {version}", flush=True)
    if options.tag:
        require_version(version, options.tag)
    if options.local:
        print(f"version {add_local(options.directory, version, options.local)}", flush=True)
    return 0
