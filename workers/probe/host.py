"""System, cores, memory and disk."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path

from workers.probe.facts import Host, one_line


def look(folder: Path) -> Host:
    """``folder`` is where the disk is looked at."""
    total, available = _memory()
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        disk = None
    return Host(
        system=platform.system().lower() or sys.platform,
        release=one_line(_release()),
        kernel=one_line(platform.release()),
        machine=one_line(platform.machine()),
        cores=_cores(),
        memory_total=total,
        memory_available=available,
        disk_total=disk.total if disk else None,
        disk_free=disk.free if disk else None,
    )


def _release() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[int | None, int | None]:
    return _memory_of_windows() if sys.platform == "win32" else memory_of_linux(Path("/proc/meminfo"))


def memory_of_linux(file: Path) -> tuple[int | None, int | None]:
    """Total and available, of the host: a container sees its host's."""
    found: dict[str, int] = {}
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found.get("MemTotal"), found.get("MemAvailable")


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def _memory_of_windows() -> tuple[int | None, int | None]:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel: object = getattr(ctypes, "windll").kernel32  # noqa: B009 - there on Windows only
    if not getattr(kernel, "GlobalMemoryStatusEx")(ctypes.byref(status)):  # noqa: B009
        return None, None
    return status.total, status.available
