"""``mlc-ci-worker probe``: what this host can do."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from workers.errors import InfrastructureError, UsageError
from workers.probe.collect import SECONDS, probe
from workers.probe.facts import FILE, Probe
from workers.probe.table import lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, sizes in bytes")
    parser.add_argument(
        "--seconds",
        type=seconds_above_zero,
        default=SECONDS,
        metavar="S",
        help=f"that a driver may take; default: {SECONDS:g}",
    )
    parser.add_argument(
        "--worker", type=Path, metavar="DIR", help=f"a worker's folder: write DIR/info/{FILE} instead, for the master"
    )


def seconds_above_zero(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above zero")
    return seconds


def main(options: argparse.Namespace) -> int:
    if options.worker and not (options.worker / "worker.json").is_file():
        raise UsageError(f"{options.worker} is no worker's folder: it has no worker.json")
    found = probe(options.worker or Path.cwd(), options.seconds)
    if options.worker:
        write(options.worker, found)
    elif options.json:
        print(found.as_json(indent=2))
    else:
        print("\n".join(lines(found)))
    return 0


def write(folder: Path, found: Probe) -> None:
    """At once or not at all. Made in ``tmp/``: whatever lies in ``info/`` is sent to the master.

    Raises :class:`InfrastructureError` when it cannot be written.
    """
    made = ""
    try:
        (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
        (folder / "info").mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=folder / "tmp", delete=False) as file:
            made = file.name
            file.write(found.as_json() + "\n")
        os.replace(made, folder / "info" / FILE)  # noqa: PTH105 - as the lines above
    except OSError as error:
        if made:
            Path(made).unlink(missing_ok=True)
        raise InfrastructureError(f"{folder / 'info' / FILE} cannot be written: {error.strerror or error}") from error
