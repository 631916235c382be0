"""How the artifact process says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.sizes import size_text


class Refused(Exception):
    """An answer that is an error: an HTTP status, and what the reader is told."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **more}


def over_budget(budget: int, sizes: Mapping[str, int]) -> str:
    """What the reader is told of a build that uploads too much."""
    biggest = max(sizes, key=lambda name: sizes[name])
    many = "1 file" if len(sizes) == 1 else f"{len(sizes)} files"
    return (
        f"artifact limit: {size_text(budget)} allowed, {size_text(sum(sizes.values()))} in {many};"
        f" the biggest: {biggest} ({size_text(sizes[biggest])})"
    )
