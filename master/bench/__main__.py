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

from master.bench import caches, figures
from master.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ci/bench", description="Ratios within one run on this machine.")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="cold and warm builds of each (3)")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended on the way out
    progress = Console(stderr=True, highlight=False)
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "platform": platform.platform()}
    try:
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


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 … 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
