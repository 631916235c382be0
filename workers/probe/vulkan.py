"""Vulkan's devices, by asking the loader. Run as ``python -m workers.probe.vulkan``: a driver may hang or crash.

``vulkaninfo`` is not asked: it wants a display's libraries, and prints text for people.
"""

from __future__ import annotations

from ctypes import byref, c_uint32, c_void_p
from dataclasses import dataclass
from typing import Any

from workers.probe import vulkan_abi as abi
from workers.probe.facts import VULKAN, WITHIN, Absence, Gpu, Heap, Problem, VulkanDevice, one_line
from workers.probe.part import Found, say

_VENDORS = {
    0x10DE: "nvidia",
    0x1002: "amd",
    0x8086: "intel",
    0x13B5: "arm",
    0x5143: "qualcomm",
    0x106B: "apple",
    0x10005: "mesa",
}
_DRIVER_PROPERTIES, _MEMORY_BUDGET = b"VK_KHR_driver_properties", b"VK_EXT_memory_budget"
_PROPERTIES_2 = abi.version(1, 1)  # the Vulkan of which it is part, at the instance and at the device


def look() -> Found:
    reached = reach()
    if isinstance(reached, Found):
        return reached
    more = (_problem(f"more than {WITHIN.gpus} devices; the others are not shown"),) if reached.more else ()
    gpus = tuple(device(reached.library, index, handle) for index, handle in enumerate(reached.devices))
    return Found(gpus=gpus, problems=more)


@dataclass(frozen=True, kw_only=True)
class Reached:
    library: Any
    devices: list[c_void_p]
    more: bool  #: than are here


def reach() -> Reached | Found:
    """The loader's devices, in its order; or what is said of Vulkan where there is none."""
    try:
        library = abi.loader()
    except OSError:
        return Found(absent=(Absence(part=VULKAN, why="no Vulkan loader"),))
    newest = c_uint32(abi.version(1, 0))
    if hasattr(library, "vkEnumerateInstanceVersion"):
        library.vkEnumerateInstanceVersion(byref(newest))
    if newest.value < _PROPERTIES_2:
        return _broken("the Vulkan loader knows Vulkan 1.0 only; 1.1 is needed, to tell devices apart")
    instance = c_void_p()
    info = abi.instance_info(newest.value)
    result = library.vkCreateInstance(byref(info), None, byref(instance))
    if result == abi.INCOMPATIBLE_DRIVER:
        return Found(absent=(Absence(part=VULKAN, why="a Vulkan loader, but no driver that works"),))
    if result != abi.SUCCESS:
        return _broken(f"vkCreateInstance: {abi.RESULTS.get(result, f'result {result}')}")
    count = c_uint32(WITHIN.gpus)
    handles = (c_void_p * WITHIN.gpus)()
    result = library.vkEnumeratePhysicalDevices(instance, byref(count), handles)
    if result not in (abi.SUCCESS, abi.INCOMPLETE):
        return _broken(f"vkEnumeratePhysicalDevices: {abi.RESULTS.get(result, f'result {result}')}")
    if not count.value:
        return Found(absent=(Absence(part=VULKAN, why="a Vulkan driver, but no device"),))
    found = [c_void_p(handle) for handle in handles[: count.value]]
    return Reached(library=library, devices=found, more=result == abi.INCOMPLETE)


def _broken(what: str) -> Found:
    return Found(problems=(_problem(what),))


def _problem(what: str) -> Problem:
    return Problem(part=VULKAN, what=one_line(what))


def device(library: Any, index: int, handle: c_void_p) -> Gpu:
    properties = abi.VkPhysicalDeviceProperties()
    library.vkGetPhysicalDeviceProperties(handle, byref(properties))
    ids, driver = abi.id_properties(), abi.driver_properties()
    extensions = _extensions(library, handle)
    if modern := properties.apiVersion >= _PROPERTIES_2:
        chain: list[Any] = [ids]
        if properties.apiVersion >= abi.version(1, 2) or _DRIVER_PROPERTIES in extensions:
            chain.append(driver)
        library.vkGetPhysicalDeviceProperties2(handle, byref(abi.properties_2(*chain)))
    kind = abi.KINDS.get(properties.deviceType, "other")
    said = f"{_text(driver.driverName)} {_text(driver.driverInfo)}".strip()
    uuid = _uuid(ids.deviceUUID)
    described = VulkanDevice(
        index=index,
        kind=kind,
        api=abi.version_text(properties.apiVersion),
        driver=one_line(said or f"{properties.driverVersion:#x}"),
        vendor_id=properties.vendorID,
        device_id=properties.deviceID,
        uuid=uuid,
        driver_uuid=_uuid(ids.driverUUID),
        heaps=_heaps(library, handle, budget=modern and _MEMORY_BUDGET in extensions),
    )
    vendor = _VENDORS.get(properties.vendorID, f"{properties.vendorID:#06x}")
    return Gpu(id=f"VK-{uuid or index}", name=one_line(_text(properties.deviceName)), vendor=vendor, vulkan=described)


def _text(said: bytes) -> str:
    return said.decode(errors="replace").strip()


def _uuid(said: Any) -> str | None:
    """A driver that has none leaves zeros."""
    return bytes(said).hex() if any(said) else None


def _extensions(library: Any, handle: c_void_p) -> set[bytes]:
    count = c_uint32()
    if library.vkEnumerateDeviceExtensionProperties(handle, None, byref(count), None) != abi.SUCCESS:
        return set()
    found = (abi.VkExtensionProperties * count.value)()
    result = library.vkEnumerateDeviceExtensionProperties(handle, None, byref(count), found)
    return {one.extensionName for one in found[: count.value]} if result in (abi.SUCCESS, abi.INCOMPLETE) else set()


def _heaps(library: Any, handle: c_void_p, *, budget: bool) -> tuple[Heap, ...]:
    now = abi.memory_budget()
    if budget:
        both = abi.memory_properties_2(now)
        library.vkGetPhysicalDeviceMemoryProperties2(handle, byref(both))
        memory = both.memoryProperties
    else:
        memory = abi.VkPhysicalDeviceMemoryProperties()
        library.vkGetPhysicalDeviceMemoryProperties(handle, byref(memory))
    return tuple(
        Heap(
            size=heap.size,
            device_local=bool(heap.flags & abi.DEVICE_LOCAL),
            budget=now.heapBudget[number] if budget else None,
        )
        for number, heap in enumerate(memory.memoryHeaps[: min(memory.memoryHeapCount, WITHIN.heaps)])
    )


if __name__ == "__main__":
    say(look)
