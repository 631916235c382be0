"""NVIDIA boards as NVML tells of them. Run as ``python -m workers.probe.nvidia``: the driver may hang or crash.

Nearly every query may be unsupported by a board, a driver or a container: then that fact is absent. NVML tells of an
XID only those who listened when it happened, so the probe has none; what it left behind is asked instead: ECC errors,
remapped rows, retired pages, and what the driver says has to be done (:attr:`CudaDevice.recovery`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from workers.probe.facts import CUDA, WITHIN, Absence, CudaDevice, Gpu, Problem, Process, one_line
from workers.probe.part import Found, say

_RECOVERY = {0: "none", 1: "reset", 2: "reboot", 3: "drain", 4: "drain and reset", 6: "reset of the bus", 7: "reboot"}
_CAUSES = (0, 1)  # of retired pages: several single-bit errors, one double-bit error


class _Nvml:
    """NVML, with a way to ask that takes a refusal for an answer."""

    def __init__(self, library: Any) -> None:
        self.library = library
        refused = ("GPU_IS_LOST", "RESET_REQUIRED", "UNKNOWN", "TIMEOUT", "CORRUPTED_INFOROM", "IRQ_ISSUE")
        self.grave = {getattr(library, f"NVML_ERROR_{name}") for name in refused}
        self.mismatch: type[Exception] = getattr(library, "NVMLLibraryMismatchError", library.NVMLError)
        self.complaints: dict[str, None] = {}

    def ask(self, name: str, *arguments: Any) -> Any:
        """``None`` where it is not supported; what says that the board is broken is kept as a complaint too."""
        try:
            return getattr(self.library, name)(*arguments)
        except (AttributeError, self.mismatch):  # an older nvidia-ml-py, an older driver
            return None
        except self.library.NVMLError as error:
            if error.value in self.grave:
                self.complaints[one_line(str(error))] = None
            return None


def look() -> Found:
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return Found(problems=(_problem("nvidia-ml-py is not installed, so that no NVIDIA board can be seen"),))
    try:
        library.nvmlInit()
    except library.NVMLError_LibraryNotFound:
        return Found(absent=(Absence(part=CUDA, why="no NVIDIA driver"),))
    except library.NVMLError as error:
        return Found(problems=(_problem(f"an NVIDIA driver is installed, but NVML does not start: {error}"),))
    return boards(library)


def boards(library: Any) -> Found:
    """Of an initialised NVML."""
    nvml = _Nvml(library)
    driver, cuda = nvml.ask("nvmlSystemGetDriverVersion"), nvml.ask("nvmlSystemGetCudaDriverVersion_v2")
    versions: dict[str, Any] = {
        "driver": _text(driver),
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
    }
    gpus, problems = [], []
    count = nvml.ask("nvmlDeviceGetCount") or 0
    for index in range(min(count, WITHIN.gpus)):
        board = _Nvml(library)
        handle = board.ask("nvmlDeviceGetHandleByIndex", index)
        uuid = _text(board.ask("nvmlDeviceGetUUID", handle)) if handle is not None else None
        if uuid:
            name = _text(board.ask("nvmlDeviceGetName", handle)) or "NVIDIA"
            device = CudaDevice(index=index, **versions, **_facts(board, handle))
            gpus.append(Gpu(id=uuid, name=name, vendor="nvidia", cuda=device))
        else:
            board.complaints.setdefault("it does not say its uuid")
        problems += [_problem(f"{uuid or f'board {index}'}: {said}") for said in board.complaints]
    if not count and not nvml.complaints:
        return Found(absent=(Absence(part=CUDA, why="an NVIDIA driver, but no board"),))
    if count > WITHIN.gpus:
        problems.append(_problem(f"{count} boards, of which {WITHIN.gpus} are shown"))
    return Found(gpus=tuple(gpus), problems=(*map(_problem, nvml.complaints), *problems))


def _problem(what: str) -> Problem:
    return Problem(part=CUDA, what=one_line(what))


def _text(said: Any) -> str | None:
    if said is None:
        return None
    return one_line(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) or None


def _facts(nvml: _Nvml, handle: Any) -> dict[str, Any]:
    """What :class:`CudaDevice` has of one board."""

    def ask(name: str, *arguments: Any) -> Any:
        return nvml.ask(f"nvmlDeviceGet{name}", handle, *arguments)

    memory, compute, pci = ask("MemoryInfo"), ask("CudaComputeCapability"), ask("PciInfo")
    mig = ask("MigMode")
    rows = ask("RemappedRows")
    pages = [found for cause in _CAUSES if (found := ask("RetiredPages", cause)) is not None]
    pending = ask("RetiredPagesPendingStatus")
    library = nvml.library
    errors = ask("TotalEccErrors", library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, library.NVML_VOLATILE_ECC)
    split = bool(mig[0]) if mig else None
    return {
        "pci": _text(pci.busId) or "" if pci else "",
        "memory_total": int(memory.total) if memory else None,
        "memory_free": int(memory.free) if memory else None,
        "compute": f"{compute[0]}.{compute[1]}" if compute else None,
        "mig": split,
        "mig_slices": _slices(ask) if split else 0,
        "ecc_uncorrected": errors,
        "retired_pages": sum(map(len, pages)) if pages else None,
        "retired_pending": bool(pending) if pending is not None else None,
        "remapped_rows": rows[1] if rows else None,
        "remap_pending": bool(rows[2]) if rows else None,
        "remap_failed": bool(rows[3]) if rows else None,
        "recovery": _recovery(ask, library),
        "processes": _processes(ask),
    }


def _slices(ask: Callable[..., Any]) -> int:
    most = ask("MaxMigDeviceCount") or 0
    return sum(ask("MigDeviceHandleByIndex", index) is not None for index in range(most))


def _recovery(ask: Callable[..., Any], library: Any) -> str | None:
    field = getattr(library, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
    said = ask("FieldValues", [field]) if field is not None else None
    if not said or said[0].nvmlReturn != library.NVML_SUCCESS:
        return None
    number = said[0].value.uiVal
    return _RECOVERY.get(number, f"action {number}")


def _processes(ask: Callable[..., Any]) -> tuple[Process, ...] | None:
    lists = []
    for kind in ("Compute", "Graphics"):
        found = ask(f"{kind}RunningProcesses")
        if found is None:
            found = ask(f"{kind}RunningProcesses_v2")  # of drivers before 510
        lists += [] if found is None else [found]
    if not lists:
        return None
    each = {
        one.pid: Process(pid=one.pid, memory=one.usedGpuMemory, ours=_ours(one.pid)) for found in lists for one in found
    }
    most_first = sorted(each.values(), key=lambda one: (-(one.memory or 0), one.pid))
    return tuple(most_first[: WITHIN.processes])


def _ours(pid: int) -> bool:
    if sys.platform != "linux":
        return False
    from workers.processes import environment  # noqa: PLC0415 - Linux only
    from workers.supervise import MARKER  # noqa: PLC0415

    return any(each.startswith(f"{MARKER}=".encode()) for each in environment(pid))


if __name__ == "__main__":
    say(look)
