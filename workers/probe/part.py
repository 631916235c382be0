"""A part of the probe that runs in a process of its own: what it found, said as JSON on its output."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workers.probe.asking import NoAnswer, ask, how_it_ended
from workers.probe.facts import Absence, CudaDevice, Gpu, Heap, Problem, Process, VulkanDevice, one_line

_STILL_THERE = "D"  # state of a process that waits in the kernel and takes no signal
_LOOKS, _BETWEEN_S = 20, 0.1  #: so often in a row must it be found waiting


@dataclass(frozen=True, kw_only=True)
class Found:
    gpus: tuple[Gpu, ...] = ()
    absent: tuple[Absence, ...] = ()
    problems: tuple[Problem, ...] = ()


def say(look: Callable[[], Any]) -> None:
    """For the process of its own: ``look`` gives a dataclass. What drivers print to stdout goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    with answer:
        answer.write(json.dumps(asdict(look())))
        answer.flush()
        os._exit(0)  # a driver may hang in its destructors; what was asked has been answered


def hear(part: str, module: str, seconds: float, environment: Mapping[str, str] | None = None) -> Found:
    """For the process that asks: every way not to answer is a :class:`Problem`."""
    if stuck := stuck_process(module):
        return _broken(part, f"hangs: process {stuck}, which asked before, still waits in the kernel for the driver")
    try:
        # -P: where the worker stands, somebody's checkout may have a folder of the same name
        answer = ask([sys.executable, "-P", "-m", module], seconds, environment)
    except NoAnswer as why:
        return _broken(part, str(why))
    if answer.code:
        return _broken(part, how_it_ended(answer))
    try:
        found = read(json.loads(answer.out))
    except (ValueError, TypeError, KeyError) as error:
        return _broken(part, f"answered what cannot be read: {error}")
    complaints = [line for line in answer.err.splitlines() if "ERROR" in line]
    told = tuple(Problem(part=part, what=one_line(line)) for line in dict.fromkeys(complaints))
    return Found(gpus=found.gpus, absent=found.absent, problems=(*found.problems, *told))


def _broken(part: str, what: str) -> Found:
    return Found(problems=(Problem(part=part, what=one_line(what)),))


def stuck_process(module: str) -> int | None:
    """An earlier process of this part that nothing can end: one more at each turn of the timer would pile up."""
    if sys.platform != "linux":
        return None
    from workers.processes import pids  # noqa: PLC0415 - Linux only

    for pid in pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - one of hundreds
                words = file.read(4096).split(b"\0")
        except OSError:
            continue
        if module.encode() in words and _stays_there(pid):
            return pid
    return None


def _stays_there(pid: int) -> bool:
    """Whether it waits in the kernel for good: whoever reads from a disk does so for a moment."""
    from workers.processes import process  # noqa: PLC0415 - Linux only

    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_S)
        one = process(pid)
        if one is None or one.state != _STILL_THERE:
            return False
    return True


def read(said: Mapping[str, Any]) -> Found:
    """What :func:`say` wrote. Raises KeyError, TypeError, ValueError for anything else."""
    return Found(
        gpus=tuple(_gpu(each) for each in said["gpus"]),
        absent=tuple(Absence(**each) for each in said["absent"]),
        problems=tuple(Problem(**each) for each in said["problems"]),
    )


def _gpu(said: Mapping[str, Any]) -> Gpu:
    cuda, vulkan = said["cuda"], said["vulkan"]
    if cuda and cuda["processes"] is not None:
        cuda = {**cuda, "processes": tuple(Process(**each) for each in cuda["processes"])}
    if vulkan:
        vulkan = {**vulkan, "heaps": tuple(Heap(**each) for each in vulkan["heaps"])}
    known = {"cuda": CudaDevice(**cuda) if cuda else None, "vulkan": VulkanDevice(**vulkan) if vulkan else None}
    return Gpu(**{**said, **known})
