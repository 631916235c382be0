"""``mlc-ci-worker limit --memory BYTES --processes N -- COMMAND…``: a command that cannot take its worker along.

It watches the command and everything below it, daemons included, and ends all of it when a limit is hit. What counts:

* **memory**: what the kernel says each process has, shared pages divided among those that share them (PSS; a sum of
  RSS would count a forked worker's memory once for each of its children), and what of it is swapped out. Not address
  space: CUDA and sanitizers reserve terabytes that they never touch. Not files in a tmpfs, unless they are mapped.
* **processes**: processes and threads together, as the kernel counts them for its own limits.

The last line then says which limit, its value, what was seen, and who had most::

    mlc-ci-worker limit: error: memory limit: 512 MiB allowed, 540 MiB seen in 3 processes; the biggest: python3 hog.py
    (process 4711, 520 MiB)

With ``--gpu``, what was used of these boards comes in one more line (:mod:`workers.gpu.usage`), which stands last.
Without a limit nothing is looked at, and all is ended with the command just the same.

The exit code is 1 then, the command's own otherwise; 128 and the number of the signal that killed it. What the command
leaves running when it ends is ended too: behind its back a limit would be worth nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys

from workers.errors import InfrastructureError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory", type=_positive, metavar="BYTES", help="of all its processes together")
    parser.add_argument("--processes", type=_positive, metavar="N", help="processes and threads, of all together")
    parser.add_argument("--gpu", action="append", default=[], metavar="GPU-…", help="a board to say the use of")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run, with its arguments")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def main(options: argparse.Namespace) -> int:
    command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not command:
        raise UsageError("no command was given: … limit --memory BYTES --processes N -- COMMAND…")
    if sys.platform != "linux":
        raise UsageError(f"limits of memory and processes are held on Linux only, and this is {sys.platform}")
    if not shutil.which(command[0]):
        raise InfrastructureError(f"the worker has no program {command[0]}")
    from workers.watch import run_limited  # noqa: PLC0415 - Linux only

    return run_limited(command, memory=options.memory, processes=options.processes, gpus=options.gpu)
