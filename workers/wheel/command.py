"""``mlc-ci-worker verify-wheel FILE…``: exit code 0 all passed, 1 a check failed, 2 something could not be read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workers.errors import InfrastructureError, UsageError

#: option -> (expectation, what it means); each may be given several times
_LISTS = {
    "--platform": ("platforms", "linux_x86_64, linux_aarch64, win_amd64 or any: exactly one wheel for each"),
    "--library": ("libraries", "must lie at the package's root"),
    "--exclude": ("exclude", "a library that comes from elsewhere: may be needed, must not be in the wheel"),
    "--allow-needed": ("needed", "a further library (pattern) that may be needed or imported"),
    "--allow": ("allow", "CHECK=PATTERN: members of such names are as they are on purpose"),
    "--forbid": ("forbidden", "a library (pattern) that must not be needed, instead of TVM's old monolithic one"),
    "--never-graft": (
        "never_grafted",
        "a library (pattern) that must not be grafted, instead of TVM's and the drivers'",
    ),
    "--placeholder": ("placeholders", "a version that stands for none, instead of what version scripts fall back to"),
    "--requires": ("requires_dist", "a requirement that METADATA must have"),
    "--tvm": ("tvm", "a wheel or library of TVM, or a folder of them: it must export what is used of TVM"),
}
_VALUES = {
    "--expect-version": ("version", "the version it must have"),
    "--tag": ("tag", "as --expect-version, from a git tag; empty: none"),
    "--package": ("package", "the import package it must hold"),
    "--glibc": ("glibc", "the newest GLIBC symbols allowed, besides what the platform tag says"),
    "--glibcxx": ("glibcxx", "the same for GLIBCXX"),
    "--cxxabi": ("cxxabi", "the same for CXXABI"),
    "--max-size": ("max_size", "the size budget, as 100M"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a wheel, or a folder: all wheels in it")
    parser.add_argument("--json", action="store_true", help="a stable JSON object instead of the table")
    parser.add_argument("--checks", action="store_true", help="list all checks and end")
    parser.add_argument("--expect", type=Path, metavar="JSON", help="expectations from a file; options add to it")
    parser.add_argument("--bound", action="append", default=[], metavar="NAME=VALUE", help="change a reader's bound")
    for option, (name, meaning) in _LISTS.items():
        parser.add_argument(option, dest=name, action="append", metavar="X", help=meaning)
    for option, (name, meaning) in _VALUES.items():
        parser.add_argument(option, dest=name, metavar="X", help=meaning)
    parser.add_argument("--manifest", action="store_true", default=None, help="its manifest must lie beside it")
    parser.add_argument("--install", action="store_true", default=None, help="install it into a throwaway environment")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The expectations among the options."""
    names = [name for name, _ in (*_LISTS.values(), *_VALUES.values())]
    return {name: value for name in (*names, "manifest", "install") if (value := getattr(options, name))}


def wheels_in(files: list[Path]) -> list[Path]:
    """The files, folders replaced by the wheels in them. Raises :class:`UsageError` for an empty folder."""
    found: list[Path] = []
    for file in files:
        if file.is_dir():
            inside = sorted(file.glob("*.whl"))
            if not inside:
                raise UsageError(f"{file} holds no wheel")
            found += inside
        else:
            found.append(file)
    return found


def main(options: argparse.Namespace) -> int:
    try:
        from workers.wheel import expectations, report, symbols, verify  # noqa: PLC0415 - need what [worker] installs
        from workers.wheel.bounds import Bounds  # noqa: PLC0415
    except ImportError as error:
        raise InfrastructureError(f"{error}: pip install 'mlc-ci[worker]'") from error
    if options.checks:
        _list_checks()
        return 0
    files = wheels_in(options.files)
    if not files:
        raise UsageError("no FILE given")
    try:
        base = expectations.read_json(options.expect) if options.expect else {}
        expected = expectations.merged({"policy": True, **base} if options.expect else base, given(options))
        bounds = Bounds.of(options.bound)
    except ValueError as error:
        raise UsageError(str(error)) from error
    offer = symbols.read_offer([Path(name) for name in expected.tvm], bounds) if expected.tvm else None
    verdicts = [verify.verify(file, expected, bounds, offer) for file in files]
    together = list(verify.set_findings(verdicts, expected))
    if options.json:
        print(json.dumps(report.as_json(verdicts, together), indent=2))
    else:
        print(report.as_text(verdicts, together))
    return report.overall(verdicts, together)


def _list_checks() -> None:
    from workers.wheel.checks import CHECKS  # noqa: PLC0415

    width = max(map(len, CHECKS))
    for name, check in CHECKS.items():
        print(f"{name:{width}}  {check.meaning}")
