"""Durations as people write them: ``90`` (seconds), ``"90s"``, ``"15m"``, ``"1h30m"``, ``"30d"``, ``"1y"``."""

from __future__ import annotations

import math
import re

from pydantic_core import PydanticCustomError

UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}  #: in seconds, longest first
ALLOWED = 'seconds (90), or a string of number and unit: "90s", "15m", "2h", "1h30m", "30d", "2w", "1y"'
LONGEST = 100 * UNITS["y"]  #: beyond it dates overflow; nobody means it

_PART = re.compile(r"(\d+(?:\.\d+)?)([ywdhms])", re.ASCII)


def parse_duration(value: object) -> float:
    """Seconds, from a number of them or a string; raises ``ValueError`` for anything else."""
    if isinstance(value, str):
        text = value.replace(" ", "")
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{value!r} is no duration")
        seconds = math.fsum(float(number) * UNITS[unit] for number, unit in parts)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value!r} is no duration")
        seconds = float(value)
    else:
        raise ValueError(f"{value!r} is no duration")
    if seconds > LONGEST:
        raise ValueError(f"{value!r} is longer than a century")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest string that :func:`parse_duration` reads back as the same whole number of seconds."""
    left = round(seconds)
    text = ""
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def validate_duration(value: object) -> float:
    """:func:`parse_duration` as a pydantic validator whose error says what is allowed."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("allowed", "{reason}", {"reason": str(error), "allowed": ALLOWED}) from None
