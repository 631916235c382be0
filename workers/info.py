"""What a worker tells its master of itself: each file of its ``info/``, sent whenever it attaches and when it is asked.

A build runs as the worker's user and can write there. One file too large breaks the connection, and a folder or a pipe
where a file should be fails it: so nothing is sent but what the worker itself writes, and no more than it writes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from workers.probe.facts import FILE as PROBE
from workers.probe.facts import WITHIN

FOLDER = "info"
FACTS = ("admin", "host", "python", "mlc_ci")  #: files that the worker writes when it starts
_LARGEST = {PROBE: WITHIN.size + 1, **dict.fromkeys(FACTS, 4096)}  # bytes; a newline ends each


def tidied(directory: Path) -> Path:
    """The folder, without what is not the worker's own. What cannot be removed stays: that is told when it is read."""
    info = directory / FOLDER
    if info.is_symlink() or not info.is_dir():
        _remove(info)
        info.mkdir(exist_ok=True)
    for name in os.listdir(info):  # noqa: PTH208 - names that are no text, too
        if not _is_own(info / name):
            _remove(info / name)
    return info


def _is_own(file: Path) -> bool:
    try:
        found = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST.get(file.name, -1)


def _remove(what: Path) -> None:
    if what.is_dir() and not what.is_symlink():
        shutil.rmtree(what, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            what.unlink()
