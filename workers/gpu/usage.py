"""How much of its boards a build used: samples, summed up to a few numbers and a short series. Pure.

The sampler (:mod:`workers.gpu.sampler`) writes records, the command's wrapper sums them up in one line, the master
joins the lines of all commands of a build. Memory is the whole board's: where shares are lent, the neighbours' too.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MARK = "mlc-ci-worker limit: gpus: "  #: how the line begins, in the output of a command
POINTS = 120  #: of a build's series, at most
_OF_A_COMMAND = 60  # points: of one line
_LONGEST_LINE = 64 * 1024
_MIB = 1 << 20
_MOST_MEMORY, _MOST_SECONDS = 1 << 50, 1e8

_RECORD = struct.Struct("<dBBqq")  # when (CLOCK_MONOTONIC), which board, per cent, bytes used and of all
_UNKNOWN = 255  # per cent, where the board does not tell

Point = tuple[float, int | None, int]  #: seconds, per cent, MiB


@dataclass(frozen=True, kw_only=True)
class Sample:
    at: float
    board: int  #: its place among those that are looked at
    busy: int | None  #: per cent of the time since the driver's last look, in which a kernel ran
    used: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of one board. Bytes, per cent, seconds."""

    total: int
    peak_memory: int
    mean: float | None
    peak: int | None
    seconds: float  #: over which it was looked at
    points: tuple[Point, ...]


def pause(elapsed: float) -> float:
    """Seconds to the next sample: short commands are looked at more closely, and no command fills any memory."""
    return max(0.25, min(1.0, elapsed / 40), elapsed / 3600)


def packed(sample: Sample) -> bytes:
    busy = _UNKNOWN if sample.busy is None else sample.busy
    return _RECORD.pack(sample.at, sample.board, busy, sample.used, sample.total)


def unpacked(records: bytes) -> Iterator[Sample]:
    whole = len(records) - len(records) % _RECORD.size  # the last may be cut off by a kill
    for at, board, busy, used, total in _RECORD.iter_unpack(records[:whole]):
        yield Sample(at=at, board=board, busy=None if busy == _UNKNOWN else busy, used=used, total=total)


def summed_up(samples: Sequence[Sample], began: float) -> Usage:
    """Of one board, at least one sample, oldest first. A sample stands for the time until the next one."""
    lasts = [after.at - one.at for one, after in itertools.pairwise(samples)] + [0.0]
    lasts[-1] = lasts[-2] if len(lasts) > 1 else pause(0)
    told = [(one.busy, time) for one, time in zip(samples, lasts, strict=True) if one.busy is not None]
    weight = sum(time for _, time in told)
    return Usage(
        total=samples[-1].total,
        peak_memory=max(one.used for one in samples),
        mean=round(sum(busy * time for busy, time in told) / weight, 1) if weight else None,
        peak=max((busy for busy, _ in told), default=None),
        seconds=round(sum(lasts), 2),
        points=thinned(((one.at - began, one.busy, math.ceil(one.used / _MIB)) for one in samples), _OF_A_COMMAND),
    )


def thinned(points: Iterable[Point], most: int) -> tuple[Point, ...]:
    """No more points than that: of each stretch of time the mean per cent and the most memory."""
    rounded = ((max(0.0, round(at, 1)), busy, memory) for at, busy, memory in points)
    found = sorted(rounded, key=lambda point: point[0])
    if len(found) <= most:
        return tuple(found)
    first, last = found[0][0], found[-1][0]
    width = (last - first) / most or 1.0
    stretches: dict[int, list[Point]] = {}
    for point in found:
        stretches.setdefault(min(most - 1, int((point[0] - first) / width)), []).append(point)
    return tuple(
        (each[0][0], _mean([busy for _, busy, _ in each if busy is not None]), max(memory for _, _, memory in each))
        for _, each in sorted(stretches.items())
    )


def _mean(numbers: Collection[int]) -> int | None:
    return round(sum(numbers) / len(numbers)) if numbers else None


def line(usages: Mapping[str, Usage]) -> str:
    return MARK + json.dumps({board: asdict(usage) for board, usage in usages.items()}, separators=(",", ":"))


def read(said: str, boards: Collection[str]) -> dict[str, Usage]:
    """What :func:`line` says of these boards. A build may print such a line too: of anything else comes nothing."""
    if not said.startswith(MARK) or len(said) > _LONGEST_LINE:
        return {}
    try:
        found = json.loads(said.removeprefix(MARK))
        return {board: _usage(found[board]) for board in boards if board in found}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return {}


def _usage(said: Mapping[str, Any]) -> Usage:
    points = [
        (_within(at, _MOST_SECONDS), _per_cent(busy), int(_within(mib, _MOST_MEMORY)))
        for at, busy, mib in said["points"]
    ]
    mean = said["mean"]
    return Usage(
        total=int(_within(said["total"], _MOST_MEMORY)),
        peak_memory=int(_within(said["peak_memory"], _MOST_MEMORY)),
        mean=None if mean is None else float(_within(mean, 100)),
        peak=_per_cent(said["peak"]),
        seconds=float(_within(said["seconds"], _MOST_SECONDS)),
        points=thinned(points, _OF_A_COMMAND),
    )


def _within(number: Any, most: float) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= most:
        raise ValueError(number)
    return number


def _per_cent(number: Any) -> int | None:
    return None if number is None else int(_within(number, 100))


def joined(before: Usage | None, more: Usage, at: float) -> Usage:
    """With the next command's, which began ``at`` these seconds of the build."""
    moved = tuple((seconds + at, busy, memory) for seconds, busy, memory in more.points)
    if before is None:
        before = Usage(total=0, peak_memory=0, mean=None, peak=None, seconds=0.0, points=())
    told = [(each.mean, each.seconds) for each in (before, more) if each.mean is not None]
    weight = sum(seconds for _, seconds in told)
    return Usage(
        total=more.total,
        peak_memory=max(before.peak_memory, more.peak_memory),
        mean=round(sum(mean * seconds for mean, seconds in told) / weight, 1) if weight else None,
        peak=max((each.peak for each in (before, more) if each.peak is not None), default=None),
        seconds=round(before.seconds + more.seconds, 2),
        points=thinned((*before.points, *moved), POINTS),
    )


def from_property(said: Mapping[str, Any]) -> Usage:
    """What a build's property ``gpu_usage`` says of one board."""
    return Usage(**{**said, "points": tuple(map(tuple, said["points"]))})


def told(board: str, said: Mapping[str, Any]) -> str:
    """For people: ``GPU-…: 12.0 of 79.6 GiB at most, busy 45 % of the time, 99 % at most``."""
    gib = 1 << 30
    memory = f"{said['peak_memory'] / gib:.1f} of {said['total'] / gib:.1f} GiB at most"
    busy = "" if said["mean"] is None else f", busy {said['mean']:.0f} % of the time, {said['peak']} % at most"
    return f"{board}: {memory}{busy}"
