"""``mlc-ci-worker imports``: what another Python environment holds, and whether it can be imported there.

The work is done by :func:`_inside`, whose source runs in that environment, isolated (``-I``): neither the checkout
nor this package can stand in for what was installed.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess

from workers.errors import CodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--python", required=True, help="the environment's interpreter")
    parser.add_argument("--installed", action="append", default=[], metavar="NAME", help="no placeholder, with version")
    parser.add_argument("--same-version", action="append", default=[], metavar="NAME", help="all of these agree")
    parser.add_argument("--import", action="append", default=[], metavar="MODULE", dest="modules")
    parser.add_argument("--file", action="append", default=[], metavar="PACKAGE/FILE", dest="files", help="is there")


def _inside(installed: list[str], same_version: list[str], modules: list[str], files: list[str]) -> None:
    # ruff: noqa: PLC0415 - runs elsewhere, with nothing of this module around it
    import importlib
    import sys
    import sysconfig
    from importlib import metadata
    from pathlib import Path

    problems = []
    versions = {}
    for name in dict.fromkeys(installed + same_version):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        print(f"{name} {versions[name]}", flush=True)
        if versions[name] in ("0.1", "0.1.0"):
            problems.append(f"{name} {versions[name]} is the empty placeholder on PyPI: find_links gave nothing")
    if len({versions[name] for name in same_version if name in versions}) > 1:
        found = ", ".join(f"{name} {versions[name]}" for name in same_version if name in versions)
        problems.append(f"versions must be the same: {found}")
    roots = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    for file in files:
        if not any((Path(root) / file).is_file() for root in roots):
            problems.append(f"{file} was not installed")
    if not problems:
        owners = metadata.packages_distributions()
        for module in modules:
            print(f"importing {module} ...", flush=True)
            try:
                importlib.import_module(module)
            except BaseException as error:
                problems.append(f"import {module}: {type(error).__name__}: {error}")
                continue
            for owner in dict.fromkeys(owners.get(module.partition(".")[0], ["no distribution"])):
                known = owner != "no distribution"
                print(f"imported {module} of {owner} {metadata.version(owner) if known else ''}".rstrip(), flush=True)
    for problem in problems:
        print(f"ImportCheck: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def main(options: argparse.Namespace) -> int:
    lists = (options.installed, options.same_version, options.modules, options.files)
    source = "from __future__ import annotations\n" + inspect.getsource(_inside)
    call = f"_inside({', '.join(repr(list(values)) for values in lists)})"
    try:
        done = subprocess.run(
            [options.python, "-I", "-c", f"{source}\n{call}"],
            check=False,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise CodeError(f"{options.python} does not run: {error}") from error
    print(done.stderr, end="", flush=True)
    prefix = "ImportCheck: "
    problems = [line.removeprefix(prefix) for line in done.stderr.splitlines() if line.startswith(prefix)]
    if problems:
        raise CodeError("; ".join(problems))
    if done.returncode:
        how = f"crashed with signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        raise CodeError(f"the interpreter {how} while importing (see the last line above)")
    return 0
