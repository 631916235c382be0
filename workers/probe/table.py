"""The probe as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from workers.probe.facts import CudaDevice, Gpu, Probe, VulkanDevice
from workers.sizes import size_text


def lines(probe: Probe) -> Iterator[str]:
    host = probe.host
    yield f"host      {host.release}, {host.system} {host.kernel}, {host.machine}, {host.cores} cores"
    yield f"memory    {_of(host.memory_available, host.memory_total, 'available')}"
    yield f"disk      {_of(host.disk_free, host.disk_total, 'free')}"
    yield from _block("tools", [f"{tool.name:8}  {tool.version:12}  {tool.path}" for tool in probe.tools])
    yield from _block("gpus", [line for gpu in probe.gpus for line in _gpu(gpu)])
    yield from _block("absent", [f"{each.part:8}  {each.why}" for each in probe.absent])
    yield from _block("problems", [f"{each.part:8}  {each.what}" for each in probe.problems])


def _block(title: str, rows: list[str]) -> Iterator[str]:
    for number, row in enumerate(rows or ["–"]):
        yield f"{'' if number else title:8}  {row}"


def _of(part: int | None, whole: int | None, word: str) -> str:
    if whole is None:
        return "unknown"
    return size_text(whole) if part is None else f"{size_text(part)} of {size_text(whole)} {word}"


def _gpu(gpu: Gpu) -> Iterator[str]:
    yield f"{gpu.id}  {gpu.name} ({gpu.vendor})"
    if gpu.cuda:
        for word in _cuda(gpu.cuda):
            yield f"    {word}"
    if gpu.vulkan:
        for word in _vulkan(gpu.vulkan):
            yield f"    {word}"


def _cuda(device: CudaDevice) -> Iterator[str]:
    words = [f"cuda {device.cuda}" if device.cuda else "cuda"]
    words += [f"compute {device.compute}"] if device.compute else []
    words += [f"driver {device.driver}"] if device.driver else []
    yield ", ".join([*words, f"index {device.index}", f"bus {device.pci}"])
    yield f"memory {_of(device.memory_free, device.memory_total, 'free')}"
    if device.mig:
        yield f"MIG is on: {device.mig_slices} slices, which are not scheduled"
    yield "health: " + (", ".join(_health(device)) or "not told")
    for process in device.processes or ():
        yield f"process {process.pid}: {_of(None, process.memory, '')}"


def _health(device: CudaDevice) -> Iterator[str]:
    known = {
        "uncorrected ECC errors": device.ecc_uncorrected,
        "retired pages": device.retired_pages,
        "remapped rows": device.remapped_rows,
    }
    yield from (f"{number} {what}" for what, number in known.items() if number is not None)
    waiting = {
        "pages wait to be retired": device.retired_pending,
        "rows wait to be remapped": device.remap_pending,
        "rows could not be remapped": device.remap_failed,
    }
    yield from (what for what, true in waiting.items() if true)
    if device.recovery:
        yield "nothing to be done" if device.recovery == "none" else f"to be done: {device.recovery}"


def _vulkan(device: VulkanDevice) -> Iterator[str]:
    yield f"vulkan {device.api}, {device.kind}, driver {device.driver}, index {device.index}"
    for heap in device.heaps:
        where = "on the device" if device.kind != "software" and heap.device_local else "of the host"
        yield f"heap of {size_text(heap.size)} {where}" + (
            f", {size_text(heap.budget)} usable now" if heap.budget is not None else ""
        )
