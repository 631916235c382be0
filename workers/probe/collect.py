"""The whole probe: every part at once, none of which can hold up or end another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workers.probe import host, tools
from workers.probe.boards import joined
from workers.probe.facts import CUDA, VULKAN, WITHIN, Probe, few
from workers.probe.part import hear

SECONDS = 30.0  #: for the drivers: NVML takes seconds on a host of many boards without the persistence daemon

#: One message for each driver that cannot be used, which :func:`hear` turns into a problem.
LOADER_SAYS = {"VK_LOADER_DEBUG": "error"}


def probe(folder: Path, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> Probe:
    """``folder``: where the disk is looked at; ``seconds``: for each driver; ``environment``: added to theirs."""
    at, started = time.time(), time.monotonic()
    more = environment or {}
    with ThreadPoolExecutor(3) as pool:
        nvidia = pool.submit(hear, CUDA, "workers.probe.nvidia", seconds, more)
        vulkan = pool.submit(hear, VULKAN, "workers.probe.vulkan", seconds, {**LOADER_SAYS, **more})
        here = pool.submit(tools.look)
        this = host.look(folder)
        by_nvml, by_vulkan = nvidia.result(), vulkan.result()
        found, problems = here.result()
    gpus = joined(by_nvml.gpus, by_vulkan.gpus)
    return Probe(
        at=round(at, 3),
        took=round(time.monotonic() - started, 3),
        host=this,
        tools=found,
        gpus=gpus[: WITHIN.gpus],
        absent=(*by_nvml.absent, *by_vulkan.absent),
        problems=few((*by_nvml.problems, *by_vulkan.problems, *problems)),
    )
