"""What a worker says of its host, read as what it is: a stranger's text.

A build runs as the worker's user and may write that file, so nothing in it is taken on trust: too much, too long, too
many, of another kind or said twice, and all of it counts as nothing, with the reason. It can never say that the worker
is trusted, or what it may build: that is in the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from master.capabilities import CUDA, GIB, VULKAN, Capabilities, Device
from workers.probe.facts import FORMAT, WITHIN, one_line

_LONGEST_REASON = 200


def _shown(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("has characters that cannot be shown")
    return text


def _refuse_twice(names: Sequence[str], what: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"has {what} twice")


_Text = Annotated[str, Field(max_length=WITHIN.text), AfterValidator(_shown)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$", max_length=64)]
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)]  # it goes into a build's environment
_Version = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){0,5}$")]
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Size = Annotated[int, Field(ge=0, le=1 << 60)]
_Number = Annotated[int, Field(ge=0, le=1 << 32)]
_Seconds = Annotated[float, Field(ge=0, le=1 << 40)]


class _Said(BaseModel):
    """Keys that are not known are ignored: a worker may be newer by a fix."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class HostSaid(_Said):
    system: _Name
    release: _Text
    kernel: _Text
    machine: _Text
    cores: Annotated[int, Field(ge=1, le=65536)]
    memory_total: _Size | None
    memory_available: _Size | None
    disk_total: _Size | None
    disk_free: _Size | None


class ToolSaid(_Said):
    name: _Name
    version: _Version
    path: _Text


class ProcessSaid(_Said):
    pid: _Number
    memory: _Size | None
    ours: bool = False


class CudaSaid(_Said):
    index: _Number
    pci: _Text
    memory_total: _Size | None
    memory_free: _Size | None
    compute: _Version | None
    driver: _Text | None
    cuda: _Version | None
    mig: bool | None
    mig_slices: _Number
    ecc_uncorrected: _Size | None
    retired_pages: _Number | None
    retired_pending: bool | None
    remapped_rows: _Number | None
    remap_pending: bool | None
    remap_failed: bool | None
    recovery: _Text | None
    processes: Annotated[tuple[ProcessSaid, ...], Field(max_length=WITHIN.processes)] | None


class HeapSaid(_Said):
    size: _Size
    device_local: bool
    budget: _Size | None


class VulkanSaid(_Said):
    index: _Number
    kind: Literal["discrete", "integrated", "virtual", "software", "other"]
    api: _Version
    driver: _Text
    vendor_id: _Number
    device_id: _Number
    uuid: _Hex | None
    driver_uuid: _Hex | None
    heaps: Annotated[tuple[HeapSaid, ...], Field(max_length=WITHIN.heaps)]


class GpuSaid(_Said):
    id: _Id
    name: _Text
    vendor: _Name
    cuda: CudaSaid | None
    vulkan: VulkanSaid | None


class ProblemSaid(_Said):
    part: _Name
    what: _Text


class AbsenceSaid(_Said):
    part: _Name
    why: _Text


class ProbeSaid(_Said):
    """As :class:`workers.probe.facts.Probe`, of a worker."""

    format: Literal[1]
    at: _Seconds
    took: _Seconds
    host: HostSaid
    tools: Annotated[tuple[ToolSaid, ...], Field(max_length=WITHIN.tools)]
    gpus: Annotated[tuple[GpuSaid, ...], Field(max_length=WITHIN.gpus)]
    absent: Annotated[tuple[AbsenceSaid, ...], Field(max_length=8)]
    problems: Annotated[tuple[ProblemSaid, ...], Field(max_length=WITHIN.problems)]

    @model_validator(mode="after")
    def _each_once(self) -> ProbeSaid:
        _refuse_twice([gpu.id for gpu in self.gpus], "a GPU")
        _refuse_twice([tool.name for tool in self.tools], "a tool")
        return self


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Nothing is known of the host; ``reason`` is one short line, safe to show."""

    reason: str


def read(said: object) -> ProbeSaid | Unreadable:
    """What the worker info ``probe.json`` holds. Raises nothing, whatever it is given."""
    if said is None:
        return Unreadable(reason="has not said yet what it has")
    if not isinstance(said, str):
        return Unreadable(reason="says no text of what it has")
    if len(said) > WITHIN.size:
        return Unreadable(reason=f"says {len(said)} characters of what it has, and {WITHIN.size} are read")
    try:
        return ProbeSaid.model_validate_json(said)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["loc"] == ("format",):
            return Unreadable(reason=f"says what it has in another format than {FORMAT}: upgrade it, or the master")
        where = ".".join(map(str, first["loc"]))
        return Unreadable(reason=one_line(f"says what it has wrongly: {where} {first['msg']}", _LONGEST_REASON))
    except (ValueError, RecursionError):  # text that is no Unicode
        return Unreadable(reason="says what it has in no text that can be read")


def capabilities(said: ProbeSaid, os: str, provides: frozenset[str] = frozenset()) -> Capabilities:
    """For the matcher. ``os`` and ``provides`` are the settings' word: they say which stages may come here."""
    return Capabilities(
        os=os,
        provides=provides,
        tools={tool.name: tool.version for tool in said.tools},
        devices=tuple(map(_device, said.gpus)),
        broken=_broken(said),
    )


def _broken(said: ProbeSaid) -> Mapping[str, str]:
    return {each.part: each.why for each in said.absent} | {each.part: each.what for each in reversed(said.problems)}


def _device(gpu: GpuSaid) -> Device:
    apis: dict[str, str | None] = {}
    if gpu.cuda:
        apis[CUDA] = gpu.cuda.cuda
    if gpu.vulkan:
        apis[VULKAN] = gpu.vulkan.api
    total, free = _memory(gpu)
    return Device(
        id=gpu.id,
        name=gpu.name,
        vendor=gpu.vendor,
        apis=apis,
        memory_total=total,
        memory_free=free,
        compute=gpu.cuda.compute if gpu.cuda else None,
        index=gpu.cuda.index if gpu.cuda else gpu.vulkan.index if gpu.vulkan else None,
        software=bool(gpu.vulkan and gpu.vulkan.kind == "software"),
        mig=bool(gpu.cuda and gpu.cuda.mig),
        ailing=tuple(_signs(gpu.cuda)) if gpu.cuda else (),
        taken_by=tuple(map(_holder, gpu.cuda.processes or ())) if gpu.cuda else (),
    )


def _holder(one: ProcessSaid) -> str:
    size = "" if one.memory is None else f" ({one.memory / GIB:.1f} GiB)"
    return f"process {one.pid}{size}" + (", which a build left running" if one.ours else "")


def _memory(gpu: GpuSaid) -> tuple[int | None, int | None]:
    """NVML's word, else Vulkan's of the largest heap on the device: smaller ones are windows into it."""
    if gpu.cuda and gpu.cuda.memory_total is not None:
        return gpu.cuda.memory_total, gpu.cuda.memory_free
    local = [heap for heap in gpu.vulkan.heaps if heap.device_local] if gpu.vulkan else []
    if not local:
        return None, None
    largest = max(local, key=lambda heap: heap.size)
    return largest.size, largest.budget


def _signs(board: CudaSaid) -> Iterator[str]:
    if board.ecc_uncorrected:
        yield f"{board.ecc_uncorrected} uncorrected memory errors"
    if board.remap_failed:
        yield "rows of its memory could not be remapped"
    if board.remap_pending or board.retired_pending:
        yield "bad memory waits for a reset"
    if board.recovery not in (None, "none"):
        yield f"its driver asks for: {board.recovery}"
