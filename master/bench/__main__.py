"""The command behind ``ci/bench``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from master.bench import artifacts, caches, docker, figures, leases, stock, throughput
from master.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ci/bench", description="Ratios within one run on this machine.")
    kinds = ("caches", "artifacts", "leases", "docker")
    parser.add_argument("what", nargs="?", choices=kinds, default="caches", help="(caches)")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="of everything that is compared (3)")
    parser.add_argument("--megabytes", type=_megabytes, default=500, metavar="N", help="of the artifact (500)")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended on the way out
    progress = Console(stderr=True, highlight=False)
    machine = {
        **{"cpus": os.cpu_count(), "cpu": _cpu(), "load": round(os.getloadavg()[0], 2)},
        "platform": platform.platform(),
    }
    try:
        if options.what == "artifacts":
            moved = artifacts.measure(options.rounds, options.megabytes * 1_000_000, progress.print)
            print_artifacts(moved, machine, as_json=options.json)
            return 0
        if options.what == "leases":
            print_leases(leases.measure(options.rounds, progress.print), machine, as_json=options.json)
            return 0
        if options.what == "docker":
            print_docker(docker.measure(options.rounds, progress.print), machine, as_json=options.json)
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
    cpus = f"{machine['cpus']} CPUs ({machine['cpu']}), load {machine['load']:g} at the start"
    title = f"{size}, {cpus}; median of {len(found.rounds)}"
    table = Table("", "MB/s", "ours as fast", "goal", "CPU", "master's loop late by", title=title, title_justify="left")
    for what in stock.CONTENDERS:
        goal = throughput.GOALS.get(what)
        ratio = (f"{found.ratio(what):.2f} times", f"{goal:g}") if goal else ("", "")
        rate, cpu, lag = f"{found.rate(what):.0f}", f"{found.cpu(what):.2f} s", f"{found.lag(what):.0f} ms"
        table.add_row(what, rate, *ratio, cpu, lag)
    console.print(table)
    shares = [f"p{share * 100:.0f}" for share in throughput.SHARES]
    table = Table("the master's pages, every 50 ms", "answers", *shares, title_justify="left")
    idle, ours = ([found.page(what, share) for share in throughput.SHARES] for what in (stock.IDLE, stock.READ))
    for what, all_of_it in ((stock.IDLE, idle), (stock.READ, ours)):
        answers = sum(len(one[what].answers) for one in found.rounds)
        table.add_row(what, str(answers), *(f"{milliseconds:.1f} ms" for milliseconds in all_of_it))
    table.add_row("times idle's", "", *(f"{one / other:.2f}" for one, other in zip(ours, idle, strict=True)))
    console.print(table)
    for process, name in (("master", "the master"), ("artifacts", "the artifact process")):
        memory = found.memory(process)
        console.print(f"memory of {name} in our uploads: {memory.before >> 20} MiB, at most {memory.peak >> 20} MiB")
    console.print(f"SHA-256, at either end: {found.hash_rate / 1e6:.0f} MB/s ({found.hash_name})")


def print_docker(rounds: Sequence[docker.Round], machine: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(docker.as_json(rounds, machine), indent=2))
        return
    console = Console(highlight=False)
    title = f"an image, {machine['cpus']} CPUs, load {machine['load']:g} at the start"
    table = Table("round", "cold", "from the registry's cache", "ratio", title=title, title_justify="left")
    for number, one in enumerate(rounds, 1):
        table.add_row(str(number), f"{one.cold:.1f} s", f"{one.cached:.1f} s", f"{one.ratio:.2f}")
    console.print(table)
    console.print(f"cold over cached, median of {len(rounds)}: {docker.ratio(rounds):.2f}")


def print_leases(found: leases.Compared, machine: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.as_json(machine), indent=2))
        return
    console = Console(highlight=False)
    title = f"GPU leases, simulated: {leases.GPUS} GPUs for each worker; waits in lengths of a build"
    kinds = [kind.value.removesuffix("_request") for kind in leases.KINDS]
    columns = ("", "workers", "builds", "decision", "overtaken", *kinds, "longest")
    table = Table(*columns, title=title, title_justify="left")
    for number, pair in enumerate(zip(found.small, found.large, strict=True), 1):
        for fleet in pair:
            waits = [f"{fleet.mean_wait(kind) / leases.BUILD_S:.2f}" for kind in leases.KINDS]
            table.add_row(
                *(str(number) if fleet is pair[0] else "", str(fleet.workers), str(len(fleet.builds))),
                *(f"{fleet.decision * 1000:.2f} ms", str(fleet.out_of_order), *waits),
                f"{fleet.longest_wait / leases.BUILD_S:.2f}",
            )
    console.print(table)
    console.print(f"{found.workers:g} times the workers: a decision takes {found.decision:.1f} times as long")


def _cpu() -> str:
    """What the kernel calls the processor, and what hashing can use of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", found.get("Features", "")).split()
    sha = " with SHA instructions" if {"sha_ni", "sha2"} & {*flags} else ""
    return f"{found.get('model name', platform.processor())}{sha}"


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
