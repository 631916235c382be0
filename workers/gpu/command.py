"""``mlc-ci-worker check-gpu --api cuda|vulkan``: has GPUs compute something, and compares it with the CPU.

Each device named, or each that there is::

    vulkan VK-6d65…: llvmpipe (LLVM 15.0.6, 256 bits) computes as the CPU does: 327745 elements; 1 device is visible

The exit code is 75 when one of them is not there, not fit or wrong: that is no fault of the code.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from workers.errors import InfrastructureError
from workers.gpu.check import Checked, check, look
from workers.probe.command import seconds_above_zero
from workers.probe.facts import CUDA, VULKAN

_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api", required=True, choices=(CUDA, VULKAN))
    parser.add_argument(
        "--device", action="append", metavar="ID", help="as `probe` names it: GPU-… or VK-…; more than once for several"
    )
    parser.add_argument("--memory", type=int, default=0, metavar="BYTES", help="that have to be free on each")
    parser.add_argument(
        "--seconds", type=seconds_above_zero, default=_SECONDS, metavar="S", help=f"for each; default: {_SECONDS:g}"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(options: argparse.Namespace) -> int:
    host = look(options.api, options.seconds)
    wanted = options.device or [gpu.id for gpu in host.gpus]
    if not wanted:
        why = "; ".join(host.complaints)
        raise InfrastructureError(f"there is no {options.api} device" + (f": {why}" if why else ""))
    done = [check(host, each, options.seconds, options.memory) for each in wanted]
    failed = [f"device {each.id}: {each.failure}" for each in done if each.failure]
    if options.json:
        print(json.dumps([asdict(each) for each in done], indent=2))
    else:
        beside = [f"beside it: {complaint}" for complaint in host.complaints if len(failed) < len(done)]
        print("\n".join([*map(line, done), *beside]), flush=True)
    if failed:
        raise InfrastructureError("; ".join(failed))
    return 0


def line(done: Checked) -> str:
    if done.failure:
        return f"{done.api} {done.id}: failed: {done.failure}"
    visible = "1 device is" if done.visible == 1 else f"{done.visible} devices are"
    return f"{done.api} {done.id}: {done.name} computes as the CPU does: {done.elements} elements; {visible} visible"
