"""A check that runs in a process of its own: what became of it, said as JSON on its output."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from workers.probe.part import say


class Refused(Exception):
    """The device, or the way to it, fails; says how, in one line."""


@dataclass(frozen=True, kw_only=True)
class Said:
    failure: str = ""  #: empty: what the device computed is right
    name: str = ""  #: the driver's, of the device
    visible: int = 0  #: devices of that API which this process sees
    elements: int = 0  #: computed, of all runs


def run(compute: Callable[[str, float], Said]) -> None:
    """For the process of its own: ``DEVICE SECONDS`` are its arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()

    def look() -> Said:
        try:
            return compute(options.device, options.seconds)
        except Refused as why:
            return Said(failure=str(why))

    say(look)
