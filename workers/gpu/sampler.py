"""Looks at a command's boards while it runs. Run as ``python -m workers.gpu.sampler PARENT GPU-…``: NVML may hang.

Writes records (:mod:`workers.gpu.usage`) to its output, and ends when its parent is gone. Where there is no NVML, or no
such board, it says nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from workers.gpu.usage import Sample, packed, pause
from workers.guard import dies_with_parent
from workers.probe.part import stuck_process

MODULE = "workers.gpu.sampler"


def look(library: Any, boards: Sequence[str], say: Callable[[bytes], object], here: Callable[[], bool]) -> None:
    """``here``: whether anybody still wants to know."""
    library.nvmlInit()
    handles = {}
    for number, board in enumerate(boards):
        try:
            handles[number] = library.nvmlDeviceGetHandleByUUID(board)
        except library.NVMLError:
            continue
    began = time.monotonic()
    while handles and here():
        for number, handle in handles.items():
            try:
                memory = library.nvmlDeviceGetMemoryInfo(handle)
            except library.NVMLError:
                continue
            try:
                busy = min(100, int(library.nvmlDeviceGetUtilizationRates(handle).gpu))
            except library.NVMLError:  # not told of a slice, nor by some virtual boards
                busy = None
            sample = Sample(at=time.monotonic(), board=number, busy=busy, used=memory.used, total=memory.total)
            say(packed(sample))
        time.sleep(pause(time.monotonic() - began))


def main(parent: int, boards: Sequence[str]) -> None:
    dies_with_parent()
    if stuck_process(MODULE):  # an earlier one waits in the kernel: another would wait beside it
        return
    library: Any = importlib.import_module("pynvml")
    output = os.dup(1)
    os.dup2(2, 1)  # what a driver prints is no record
    try:
        look(library, boards, lambda record: os.write(output, record), lambda: os.getppid() == parent)
    except library.NVMLError:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
