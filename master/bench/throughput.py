"""What moving files came to, as ratios: pure, for the table and for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from master.bench.stock import BARE, CONTENDERS, FILE, IDLE, MULTIPLE, OURS, READ

#: Against whom, and how many times as fast we want to be.
GOALS: Mapping[str, float] = {FILE: 5.0, MULTIPLE: 12.0, BARE: 0.5}

#: Of the answers of the page, as parts of one.
SHARES = (0.5, 0.95)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process: before the file came, and at most while it did."""

    before: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One way to move the file (or none, while nothing is to do), in one round."""

    seconds: float
    cpu: float  #: seconds of all cores, of everything that takes part
    lag: float  #: seconds that the master's event loop was late, at worst
    answers: Sequence[float]  #: seconds that each answer of the master's pages took, where they were read
    memory: Mapping[str, Memory]  #: of the master, and of the artifact process


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """All rounds; ``size`` in bytes, ``hash_rate`` in bytes a second."""

    size: int
    rounds: Sequence[Mapping[str, Moved]]
    hash_rate: float
    hash_name: str

    def rate(self, what: str) -> float:
        """MB/s: the median of the rounds."""
        return statistics.median(self.size / one[what].seconds / 1e6 for one in self.rounds)

    def cpu(self, what: str) -> float:
        """Seconds of CPU time: the median of the rounds."""
        return statistics.median(one[what].cpu for one in self.rounds)

    def lag(self, what: str) -> float:
        """Milliseconds: the worst of the rounds."""
        return max(one[what].lag for one in self.rounds) * 1000

    def page(self, what: str, share: float) -> float:
        """Milliseconds within which this share of the answers came; not a number without any."""
        answers = sorted(seconds for one in self.rounds for seconds in one[what].answers)
        return answers[min(len(answers) - 1, int(share * len(answers)))] * 1000 if answers else math.nan

    def memory(self, process: str) -> Memory:
        """Of the round in which it grew most, while the file came our way."""
        return max((one[OURS].memory[process] for one in self.rounds), key=lambda one: one.peak - one.before)

    def ratio(self, other: str) -> float:
        """How many times as fast as the other way we are: the median of the rounds, each against its own."""
        return statistics.median(one[other].seconds / one[OURS].seconds for one in self.rounds)


def as_json(found: Throughput, machine: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "benchmark": "artifacts",
        "machine": dict(machine),
        "bytes": found.size,
        "rounds": [{what: asdict(moved) for what, moved in one.items()} for one in found.rounds],
        "megabytes_per_second": {what: round(found.rate(what), 1) for what in CONTENDERS},
        "times_as_fast_as": {other: round(found.ratio(other), 2) for other in GOALS},
        "goals": dict(GOALS),
        "cpu_seconds": {what: round(found.cpu(what), 2) for what in CONTENDERS},
        "worst_lag_of_the_master_ms": {what: round(found.lag(what), 1) for what in CONTENDERS},
        "answers_of_the_page_ms": {
            what: {f"p{share * 100:.0f}": round(found.page(what, share), 1) for share in SHARES}
            for what in (IDLE, READ)
        },
        "memory": {process: asdict(found.memory(process)) for process in ("master", "artifacts")},
        "sha256": {"implementation": found.hash_name, "megabytes_per_second": round(found.hash_rate / 1e6)},
    }
