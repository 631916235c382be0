"""What moving files came to, as ratios: pure, for the table and for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from master.bench.stock import BARE, CONTENDERS, FILE, MULTIPLE, OURS

#: Against whom, and how many times as fast we want to be.
GOALS: Mapping[str, float] = {FILE: 5.0, MULTIPLE: 12.0, BARE: 0.5}


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One way to move the file, in one round."""

    seconds: float
    lag: float  #: seconds that the master's event loop was late, at worst


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """All rounds; ``size`` in bytes, memory of the artifact process in bytes, ``hash_rate`` in bytes a second."""

    size: int
    rounds: Sequence[Mapping[str, Moved]]
    memory_before: int
    memory_after: int
    hash_rate: float
    hash_name: str

    def rate(self, what: str) -> float:
        """MB/s: the median of the rounds."""
        return statistics.median(self.size / one[what].seconds / 1e6 for one in self.rounds)

    def lag(self, what: str) -> float:
        """Milliseconds: the worst of the rounds."""
        return max(one[what].lag for one in self.rounds) * 1000

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
        "worst_lag_of_the_master_ms": {what: round(found.lag(what), 1) for what in CONTENDERS},
        "memory_of_the_artifact_process": {"before": found.memory_before, "after": found.memory_after},
        "sha256": {"implementation": found.hash_name, "megabytes_per_second": round(found.hash_rate / 1e6)},
    }
