"""What was measured, and the ratio that it comes to: pure, for the table and for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TOOLS = ("ccache", "sccache")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One build of the sample: its seconds, and what its caches say."""

    seconds: float
    ccache_hits: int
    ccache_misses: int
    sccache_hits: int
    sccache_misses: int

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Measured:
        """From a build's properties. Raises :class:`KeyError` naming the one that is missing."""
        counts = {f"{tool}_{what}": int(properties[f"{tool}_{what}"]) for tool in TOOLS for what in ("hits", "misses")}
        return cls(seconds=float(properties["wheel_seconds"]), **counts)

    def cached(self, tool: str) -> str:
        hits, misses = getattr(self, f"{tool}_hits"), getattr(self, f"{tool}_misses")
        return f"{hits} of {hits + misses}"


@dataclass(frozen=True, kw_only=True)
class Round:
    """A build with empty caches, and at once the same build again."""

    cold: Measured
    warm: Measured

    @property
    def ratio(self) -> float:
        return self.cold.seconds / self.warm.seconds


def ratio(rounds: Sequence[Round]) -> float:
    """How many times as long the cold build takes: the median of the rounds, each against its own neighbour."""
    return statistics.median(one.ratio for one in rounds)


def as_json(rounds: Sequence[Round], machine: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "benchmark": "compiler-caches",
        "machine": dict(machine),
        "rounds": [{**asdict(one), "ratio": round(one.ratio, 3)} for one in rounds],
        "cold_over_warm": round(ratio(rounds), 3),
    }
