"""What a build's compiler caches did: read from the last line of ``mlc-ci-worker caches``, told as properties.

| property | is |
|---|---|
| `ccache_hits`, `ccache_misses` | compilations of C, C++ and CUDA that the cache answered, and that it did not |
| `ccache_hit_rate` | per cent, rounded down to a tenth; None where nothing was compiled |
| `sccache_hits`, `sccache_misses`, `sccache_hit_rate` | the same of Rust |
| `wheel_seconds` | how long the build took |
| `cache_warnings` | why a cache was not used, or cannot be told to have been; only where there is something to say |

The line comes from a build, which may print whatever it likes: it is read as data, within bounds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from master.settings_wheel import OFF, CacheSettings

REPORT = "mlc-ci-worker caches: "
TOOLS = {"ccache": "C, C++ and CUDA", "sccache": "Rust"}
_UNUSED = {
    "ccache": "ccache was asked for nothing: does the project set CMAKE_<LANG>_COMPILER_LAUNCHER itself?",
    "sccache": "sccache was asked for nothing: does the project set RUSTC_WRAPPER itself?",
}
_MOST = 10**9
_LONGEST, _MOST_WARNINGS = 300, 5


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one tool did for one build."""

    hits: int
    misses: int

    @property
    def rate(self) -> float | None:
        """Per cent, rounded down: 100 means all."""
        asked = self.hits + self.misses
        return self.hits * 1000 // asked / 10 if asked else None

    def __str__(self) -> str:
        return "no compilation" if self.rate is None else f"{self.hits}/{self.hits + self.misses} ({self.rate:g} %)"


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """All that a build says of its caches."""

    seconds: float | None = None
    used: Mapping[str, Use] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, line: str) -> CacheReport | None:
        """``None`` for every line that is not a report."""
        if not line.startswith(REPORT):
            return None
        try:
            said = json.loads(line.removeprefix(REPORT))
            used = {
                tool: Use(hits=_count(said[tool]["hits"]), misses=_count(said[tool]["misses"]))
                for tool in TOOLS
                if tool in said
            }
            warnings = tuple(" ".join(str(text).split())[:_LONGEST] for text in list(said["warnings"])[:_MOST_WARNINGS])
            seconds = _count(int(said["seconds"] * 1000)) / 1000
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None
        return cls(seconds=seconds, used=used, warnings=warnings)

    def properties(self) -> Iterator[tuple[str, Any]]:
        if self.seconds is not None:
            yield "wheel_seconds", self.seconds
        for tool, use in self.used.items():
            yield f"{tool}_hits", use.hits
            yield f"{tool}_misses", use.misses
            yield f"{tool}_hit_rate", use.rate

    def unused(self) -> Iterator[str]:
        """Of a build that went well: caches that were there, and that no compiler asked for anything."""
        for tool, use in self.used.items():
            if use.rate is None:
                yield _UNUSED[tool]

    def summary(self) -> list[str]:
        return [f"{tool} {use}" for tool, use in self.used.items()]


def _count(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MOST:
        raise ValueError(f"{number!r} is no count")
    return number


def with_caches(caches: CacheSettings, command: list[str]) -> list[str]:
    """The command, through the caches that the settings want."""
    wanted = [f"--{tool}={size}" for tool in TOOLS if (size := getattr(caches, tool)) != OFF]
    return ["mlc-ci-worker", "caches", *wanted, "--", *command] if wanted else command
