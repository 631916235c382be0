"""What the probe says, as JSON-able records. Sizes are bytes; what could not be learnt is ``None`` or absent.

:data:`WITHIN` bounds what is written, so that what reaches the master is small on any host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

FORMAT = 1  #: of the JSON; another number means that an older reader would misread it
FILE = "probe.json"  #: in the worker's ``info/``, so the name under which the master gets it
PERIOD = 300.0  #: seconds from the end of one probe to the next
CUDA, VULKAN = "cuda", "vulkan"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much of anything is written, and read at the master."""

    size: int = 256 * 1024  #: of the JSON; Buildbot's wire breaks at 640 KiB
    text: int = 300  #: characters of one text
    gpus: int = 24
    processes: int = 16  #: of one GPU, those with most memory
    heaps: int = 16  #: Vulkan's own maximum
    tools: int = 64
    problems: int = 64


WITHIN = Bounds()


@dataclass(frozen=True, kw_only=True)
class Host:
    system: str  #: ``linux``, ``windows``, ``darwin``
    release: str  #: as the system calls itself: ``Debian GNU/Linux 12 (bookworm)``
    kernel: str
    machine: str  #: ``x86_64``
    cores: int  #: that this process may use
    memory_total: int | None = None
    memory_available: int | None = None
    disk_total: int | None = None  #: where the probe was asked to look: the worker's folder
    disk_free: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tool:
    name: str
    version: str  #: numbers and dots: ``12.2.0``
    path: str


@dataclass(frozen=True, kw_only=True)
class Process:
    pid: int  #: as the driver counts: in a container, of the host
    memory: int | None  #: on the GPU
    ours: bool = False  #: a worker of this user started it, by its environment


@dataclass(frozen=True, kw_only=True)
class CudaDevice:
    """A board as NVML tells of it."""

    index: int  #: NVML's; CUDA's own numbers may differ, so nothing is chosen by it
    pci: str
    memory_total: int | None = None
    memory_free: int | None = None
    compute: str | None = None  #: compute capability: ``9.0``
    driver: str | None = None
    cuda: str | None = None  #: the newest CUDA that the driver runs: ``13.0``
    mig: bool | None = None  #: it is split: CUDA cannot use it whole, and its slices are not scheduled
    mig_slices: int = 0
    ecc_uncorrected: int | None = None  #: memory errors since the driver was loaded
    retired_pages: int | None = None
    retired_pending: bool | None = None
    remapped_rows: int | None = None  #: after uncorrectable errors
    remap_pending: bool | None = None  #: done only by a reset
    remap_failed: bool | None = None
    recovery: str | None = None  #: what the driver says has to be done: ``reset``, ``reboot`` …; ``none``
    processes: tuple[Process, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Heap:
    size: int
    device_local: bool
    budget: int | None = None  #: of it, what a new process could use now


@dataclass(frozen=True, kw_only=True)
class VulkanDevice:
    """A device as a Vulkan driver tells of it."""

    index: int  #: the loader's
    kind: str  #: ``discrete``, ``integrated``, ``virtual``, ``software``, ``other``
    api: str  #: ``1.3.230``
    driver: str
    vendor_id: int
    device_id: int
    uuid: str | None = None  #: hexadecimal; of the board, the same for every API
    driver_uuid: str | None = None
    heaps: tuple[Heap, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One board, with each API that reaches it."""

    id: str  #: ``GPU-…`` of NVIDIA, else ``VK-`` and Vulkan's uuid, or a number where there is none
    name: str
    vendor: str  #: ``nvidia``, ``amd``, ``intel`` …
    cuda: CudaDevice | None = None
    vulkan: VulkanDevice | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is there and does not work. What is not there is no problem."""

    part: str  #: ``cuda``, ``vulkan``, a tool's name
    what: str


@dataclass(frozen=True, kw_only=True)
class Absence:
    part: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    at: float  #: seconds since 1970, by this host's clock
    took: float  #: seconds
    host: Host
    tools: tuple[Tool, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    absent: tuple[Absence, ...] = ()  #: APIs that this host does not have
    problems: tuple[Problem, ...] = ()
    format: int = FORMAT

    def as_json(self, indent: int | None = None) -> str:
        """ASCII only: the worker reads its files in whatever encoding its locale has."""
        return json.dumps(asdict(self), indent=indent)


def one_line(text: str, limit: int = WITHIN.text) -> str:
    """Printable ASCII, on one line, no longer than the limit: in JSON no character is then more than two."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    flat = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def few(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """As many as are written, and that there are more."""
    found = tuple(problems)
    if len(found) <= WITHIN.problems:
        return found
    more = f"{len(found) - WITHIN.problems + 1} more problems are not shown"
    return (*found[: WITHIN.problems - 1], Problem(part="probe", what=more))
