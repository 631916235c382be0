"""What a build used of the boards that it was lent, over all its commands: its property ``gpu_usage``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from steps.devices import lent
from workers.gpu.usage import from_property, joined, read

GPU_USAGE = "gpu_usage"
_BEGAN = "mlc_ci_usage_began"  # attribute of a build: when its first command was looked at, on the reactor's clock


def looked_at(properties: Any) -> list[str]:
    """The boards of a build of which NVML can be asked. Vulkan tells a process of its own memory alone."""
    return [gpu["id"] for gpu in lent(properties) if gpu["id"].startswith("GPU-")]


def note(step: Any, said: str, began: float) -> None:
    """Add a command's line to what the build used. ``began``: when the command did, on the reactor's clock."""
    build_began: float = step.build.__dict__.setdefault(_BEGAN, began)
    found = read(said, looked_at(step.build.getProperties()))
    if not found:
        return
    used = dict(step.getProperty(GPU_USAGE) or {})
    for board, usage in found.items():
        before = from_property(used[board]) if board in used else None
        used[board] = asdict(joined(before, usage, round(began - build_began, 1)))
    step.setProperty(GPU_USAGE, used, "step")
