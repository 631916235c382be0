"""The check of one device: is it there, is it fit, does it compute. The driver runs in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from workers.gpu.part import Said
from workers.probe.asking import NoAnswer, ask, how_it_ended
from workers.probe.boards import joined, plain_uuid
from workers.probe.collect import LOADER_SAYS
from workers.probe.facts import CUDA, VULKAN, Gpu, one_line
from workers.probe.part import Found, hear, stuck_process

_MODULES = {CUDA: "workers.gpu.cuda", VULKAN: "workers.gpu.vulkan"}
_GRACE = 5.0  # seconds more for the process than for its device, which has more to say about what hangs
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Checked:
    api: str
    id: str
    failure: str = ""  #: one line; empty: all is well
    name: str = ""
    visible: int | None = None  #: devices of the API that a process here sees
    elements: int | None = None  #: computed, and equal to what the CPU computes


@dataclass(frozen=True, kw_only=True)
class Host:
    """What is there for one API, and what is wrong with the rest of it."""

    api: str
    gpus: tuple[Gpu, ...]
    complaints: tuple[str, ...]


def look(api: str, seconds: float, environment: Mapping[str, str] | None = None) -> Host:
    """NVML is asked for Vulkan too: it knows a board's health and free memory, and gives it its name."""
    more = environment or {}
    with ThreadPoolExecutor(2) as pool:
        nvidia = pool.submit(hear, CUDA, "workers.probe.nvidia", seconds, more)
        vulkan = Found()
        if api == VULKAN:
            vulkan = hear(VULKAN, "workers.probe.vulkan", seconds, {**LOADER_SAYS, **more})
        found = nvidia.result() if api == CUDA else vulkan
        gpus = joined(nvidia.result().gpus, vulkan.gpus)
    said = [each.why for each in found.absent] + [each.what for each in found.problems]
    return Host(api=api, gpus=tuple(gpu for gpu in gpus if getattr(gpu, api)), complaints=tuple(said))


def check(
    host: Host, wanted: str, seconds: float, memory: int = 0, environment: Mapping[str, str] | None = None
) -> Checked:
    """``wanted``: an id as the probe gives it. ``memory``: bytes of it that have to be free."""
    gpu = next((each for each in host.gpus if plain_uuid(each.id) == plain_uuid(wanted)), None)
    if gpu is None:
        return Checked(api=host.api, id=wanted, failure=one_line(_missing(host)))
    if unfit := "; ".join(_unfit(gpu, host.api, memory)):
        return Checked(api=host.api, id=wanted, name=gpu.name, failure=one_line(unfit))
    said = _computed(host.api, gpu, seconds, environment)
    if said.failure:
        return Checked(api=host.api, id=wanted, name=gpu.name, failure=one_line(said.failure))
    return Checked(api=host.api, id=wanted, name=said.name, visible=said.visible, elements=said.elements)


def _missing(host: Host) -> str:
    found = ", ".join(gpu.id for gpu in host.gpus) or "none"
    return "; ".join([f"it is not there: found {found}", *host.complaints])


def _unfit(gpu: Gpu, api: str, memory: int) -> Iterable[str]:
    board = gpu.cuda
    if not board:
        return
    if board.mig and api == CUDA:
        yield "it is split by MIG, and CUDA cannot use it whole"
    if board.remap_failed:
        yield "rows of its memory could not be remapped"
    if board.recovery not in (None, "none"):
        yield f"its driver asks for: {board.recovery}"
    if board.memory_free is not None and board.memory_free < memory:
        holding = [f"process {one.pid}" for one in board.processes or ()]
        whose = f"; it is held by {', '.join(holding)}" if holding else ""
        yield f"{board.memory_free / _GIB:.1f} of {memory / _GIB:.1f} GiB are free{whose}"


def _computed(api: str, gpu: Gpu, seconds: float, environment: Mapping[str, str] | None) -> Said:
    module = _MODULES[api]
    if stuck := stuck_process(module):
        return Said(failure=f"process {stuck}, which checked before, still waits in the kernel for the driver")
    command = [sys.executable, "-P", "-m", module, _device(api, gpu), f"{seconds:g}"]
    more = LOADER_SAYS if api == VULKAN else {}
    try:
        answer = ask(command, seconds + _GRACE, {**more, **(environment or {})})
    except NoAnswer as why:
        return Said(failure=str(why))
    if answer.code:
        return Said(failure=how_it_ended(answer))
    try:
        return Said(**json.loads(answer.out))
    except (ValueError, TypeError) as error:
        return Said(failure=f"answered what cannot be read: {error}")


def _device(api: str, gpu: Gpu) -> str:
    """As the driver knows it."""
    if api == VULKAN and gpu.vulkan:
        return gpu.vulkan.uuid or str(gpu.vulkan.index)
    return plain_uuid(gpu.id)
