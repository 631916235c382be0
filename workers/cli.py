"""``mlc-ci-worker``: the tools of a worker host. The tables say which there are; each module does its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from workers.errors import ToolError

#: subcommand -> (module with ``add_arguments`` and ``main``, what it does)
COMMANDS = {
    "checkout": ("workers.checkout", "check out pinned commits into a folder that is kept"),
    "join": ("workers.join", "make a worker's folder from the bundle that the master made for it"),
    "start": ("workers.start", "run a Buildbot worker in the foreground"),
    "limit": ("workers.limit", "run a command within limits of memory and processes, and end all of it at one"),
    "caches": ("workers.caches", "build through ccache and sccache, and say what they were good for"),
    "probe": ("workers.probe.command", "say what this host can do: its system, its tools and its GPUs"),
    "check-gpu": ("workers.gpu.command", "have GPUs compute something, and compare it with the CPU"),
    "tools": ("workers.tools", "say which programs are here, and fail where one is missing"),
    "stamp": ("workers.stamp", "run a checkout's version script and check the version against a tag"),
    "imports": ("workers.imports", "import modules in another Python environment and check what is installed there"),
    "image": ("workers.image.command", "build an image, try it locked down, scan it, and publish it"),
    "upload": ("workers.upload", "send a build's files to the artifact store"),
    "download": ("workers.download", "fetch what earlier stages of the run have left"),
    "verify-wheel": ("workers.wheel.command", "check wheels before they leave, of any platform"),
    "wheel-manifest": (
        "workers.wheel.manifest",
        "write the JSON that travels with a wheel: what it is, what it is from",
    ),
}


def version() -> str:
    """The version of the installed distribution."""
    from importlib import metadata  # noqa: PLC0415 - takes as long as all else that a short command of a build needs

    try:
        return metadata.version("mlc-ci")
    except metadata.PackageNotFoundError:
        return "unknown (mlc-ci is not installed)"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"mlc-ci {version()}")
        parser.exit()


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """Of all subcommands, or with the arguments of one alone: the modules of the others take longer to import than most
    of what a build calls."""
    parser = argparse.ArgumentParser(prog="mlc-ci-worker", description="The tools of an mlc-ci worker host.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the program's version number and exit")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, meaning) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=meaning, description=meaning[0].upper() + meaning[1:] + ".")
        if chosen in (name, ""):
            importlib.import_module(module).add_arguments(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; its exit code says whose fault a failure is (:mod:`workers.errors`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser(given[0] if given and given[0] in COMMANDS else "").parse_args(given)
    try:
        code: int = importlib.import_module(COMMANDS[options.command][0]).main(options)
    except ToolError as error:
        sys.stdout.flush()
        print(f"mlc-ci-worker {options.command}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
