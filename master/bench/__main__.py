"""The command behind ``ci/bench``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from master.bench import artifacts, caches, figures, stock, throughput
from master.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ci/bench", description="Ratios within one run on this machine.")
    parser.add_argument("what", nargs="?", choices=("caches", "artifacts"), default="caches", help="(caches)")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="of everything that is compared (3)")
    parser.add_argument("--megabytes", type=_megabytes, default=500, metavar="N", help="of the artifact (500)")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended on the way out
    progress = Console(stderr=True, highlight=False)
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "platform": platform.platform()}
    try:
        if options.what == "artifacts":
            moved = artifacts.measure(options.rounds, options.megabytes * 1_000_000, progress.print)
            print_artifacts(moved, machine, as_json=options.json)
            return 0
        rounds = caches.measure(options.rounds, progress.print)
    except UserError as error:
        progress.print(f"ci/bench: {error}", style="red", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(figures.as_json(rounds, machine), indent=2))
    else:
        print_table(Console(highlight=False), rounds, machine)
    return 0


def print_table(console: Console, rounds: Sequence[figures.Round], machine: dict[str, Any]) -> None:
    title = f"the sample's wheel, {machine['cpus']} CPUs, load {machine['load']:g} at the start"
    table = Table(
        "round", "caches", "seconds", "ccache hits", "sccache hits", "cold/warm", title=title, title_justify="left"
    )
    for number, one in enumerate(rounds, 1):
        for name, build in (("cold", one.cold), ("warm", one.warm)):
            cached = [build.cached(tool) for tool in figures.TOOLS]
            told = (str(number), "") if name == "cold" else ("", f"{one.ratio:.2f}")
            table.add_row(told[0], name, f"{build.seconds:.2f}", *cached, told[1])
    console.print(table)
    console.print(f"cold over warm, median of {len(rounds)}: {figures.ratio(rounds):.2f}")


def print_artifacts(found: throughput.Throughput, machine: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(throughput.as_json(found, machine), indent=2))
        return
    console = Console(highlight=False)
    size = f"{found.size / 1e6:.0f} MB from a worker"
    title = f"{size}, {machine['cpus']} CPUs, load {machine['load']:g} at the start; median of {len(found.rounds)}"
    table = Table("", "MB/s", "ours is", "goal", "master's loop late by", title=title, title_justify="left")
    for what in stock.CONTENDERS:
        ours = what == stock.OURS
        ratio = ("", "") if ours else (f"{found.ratio(what):.2f} times as fast", f"{throughput.GOALS[what]:g}")
        table.add_row(what, f"{found.rate(what):.0f}", *ratio, f"{found.lag(what):.0f} ms")
    console.print(table)
    console.print(
        f"memory of the artifact process: {found.memory_before >> 20} MiB, then {found.memory_after >> 20} MiB"
    )
    console.print(f"SHA-256, at either end: {found.hash_rate / 1e6:.0f} MB/s ({found.hash_name})")


def _megabytes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 … 100000")
    return int(text)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 … 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
