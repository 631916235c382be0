"""``mlc-ci-worker tools cmake ninja c++/clang++``: all the programs a stage needs, or the names of those missing."""

from __future__ import annotations

import argparse
import shutil
import subprocess

from workers.errors import InfrastructureError

_PATIENCE = 20.0  # seconds for a program to say its version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="a name, or names of which one is enough: a/b")


def find(names: str) -> str | None:
    """The path of the first of the names, separated by slashes, that is on the PATH."""
    return next((path for name in names.split("/") if (path := shutil.which(name))), None)


def said_version(path: str) -> str:
    """The first line of ``--version``, or why there is none."""
    try:
        done = subprocess.run(
            [path, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(does not run: {error})"
    return next(iter((done.stdout or done.stderr).splitlines()), "")


def main(options: argparse.Namespace) -> int:
    missing = []
    for names in options.programs:
        if path := find(names):
            print(f"{names}: {path}: {said_version(path)}", flush=True)
        else:
            missing.append(" or ".join(names.split("/")))
    if missing:
        raise InfrastructureError(f"this worker lacks {', '.join(missing)}: install it, or do not say that it has it")
    return 0
