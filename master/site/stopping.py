"""Being told to stop: Ctrl-C, a closed terminal, a service manager."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from rich.console import Console

from master.errors import UserError

INTERRUPTED = 130  #: the exit code of a shell's command that Ctrl-C ended


def told_to_stop() -> threading.Event:
    """An event that the usual signals set, instead of what they do by themselves. What is ignored (nohup) stays so."""
    stopping = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) is not signal.SIG_IGN:
            signal.signal(sign, lambda *_: stopping.set())
    return stopping


def interruptible(console: Console, stopping: threading.Event, work: Callable[[], int]) -> int:
    """Do something that ends in order when told to stop; what goes wrong meanwhile is then no error of its own."""
    try:
        return work()
    except UserError:
        if not stopping.is_set():
            raise
        console.print("interrupted; everything is stopped")
        return INTERRUPTED
