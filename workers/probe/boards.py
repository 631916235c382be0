"""One record for each board, whichever APIs reach it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from workers.probe.facts import Gpu


def joined(cuda: Iterable[Gpu], vulkan: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """What NVML says and what Vulkan says, joined by the board's uuid: NVIDIA gives both the same.

    A board that Vulkan lists several times (two drivers of it, or one driver found in two folders) is the first of
    these. A Vulkan device that says no uuid is a board of its own.
    """
    found = {gpu.id: gpu for gpu in cuda}
    boards = {plain_uuid(gpu.id): gpu.id for gpu in found.values()}
    for device in vulkan:
        uuid = device.vulkan.uuid if device.vulkan else None
        known = boards.get(uuid) if uuid else None
        if known is None:
            found[device.id] = device
            if uuid:
                boards[uuid] = device.id
        elif found[known].vulkan is None:
            found[known] = replace(found[known], vulkan=device.vulkan)
    return tuple(found.values())


def plain_uuid(gpu_id: str) -> str:
    """``GPU-4f3a…-…`` or ``VK-…`` as the uuid's hexadecimal digits alone; of a device that has no uuid, its number."""
    return gpu_id.removeprefix("GPU-").removeprefix("VK-").replace("-", "").lower()
