"""Which GPUs a build sees: those that it was lent, by its property ``gpus``, and no others.

Of each the property says its `id`, `api`, `index`, and `memory` (bytes of a share; none: all of it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.probe.boards import plain_uuid
from workers.probe.facts import VULKAN

GPUS = "gpus"

#: What CUDA and NVIDIA's container runtime take for none. (An empty list is no variable at all on Windows.)
NONE: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": "-1", "NVIDIA_VISIBLE_DEVICES": "void"}


def lent(properties: Any) -> list[Mapping[str, Any]]:
    return list(properties.getProperty(GPUS) or ())


def variables(gpus: list[Mapping[str, Any]]) -> dict[str, str]:
    """With which a build finds its devices. CUDA then shows it no others; Vulkan has nothing of the kind, so that its
    device is named only: by its uuid as Vulkan has it, or by its number where it has none."""
    found = {**NONE, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if boards := ",".join(gpu["id"] for gpu in gpus if gpu["id"].startswith("GPU-")):
        found |= dict.fromkeys(NONE, boards)
    if named := ",".join(plain_uuid(gpu["id"]) for gpu in gpus if gpu["api"] == VULKAN):
        found["MLC_CI_VULKAN_DEVICE"] = named
    return found
