"""Sizes as people read them."""

from __future__ import annotations


def size_text(size: int) -> str:
    """``8 GiB``, ``1.5 GiB``, ``200 MiB``, ``512 bytes``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
