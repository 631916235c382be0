"""Vector operations on a Vulkan device."""

from array import array
from dataclasses import dataclass

import tvm_ffi

from . import base


@tvm_ffi.register_error("VulkanUnavailable")
class VulkanUnavailable(RuntimeError):
    """There is no Vulkan to run on: built without it, or no driver with a device that computes."""


@dataclass(frozen=True)
class VulkanDevice:
    """A device as its driver describes it; `kind` is discrete, integrated, virtual, cpu or other."""

    index: int
    name: str
    kind: str
    api_version: str
    vendor_id: int
    device_id: int


def vulkan_enabled():
    """Whether the library was built with USE_VULKAN ON."""
    return bool(base.function("vulkan_enabled")())


def vulkan_devices():
    """The devices that can compute; none where no driver is installed. Raises VulkanUnavailable in a build without."""
    return [
        VulkanDevice(
            index=index,
            name=str(found["name"]),
            kind=str(found["type"]),
            api_version=str(found["api_version"]),
            vendor_id=int(found["vendor_id"]),
            device_id=int(found["device_id"]),
        )
        for index, found in enumerate(base.function("vulkan_devices")())
    ]


def _vector_op(name, a, b, device):
    result = base.function(name)(array("f", a).tobytes(), array("f", b).tobytes(), device)
    return array("f", bytes(result)).tolist()


def vulkan_add(a, b, *, device=0):
    """a + b, element by element in 32-bit floats, computed by the device. Raises VulkanUnavailable without one."""
    return _vector_op("vulkan_add", a, b, device)


def vulkan_mul(a, b, *, device=0):
    """a * b, element by element in 32-bit floats, computed by the device. Raises VulkanUnavailable without one."""
    return _vector_op("vulkan_mul", a, b, device)


def vulkan_self_test(count=4099, *, device=0):
    """Runs every operation on the device, compares with the CPU and returns the device.

    `count` is no multiple of the work group's size on purpose. Raises AssertionError naming the first difference.
    """
    chosen = vulkan_devices()
    a = array("f", (index * 0.25 - 100.0 for index in range(count)))
    b = array("f", (7.5 - index * 0.5 for index in range(count)))
    for name, run, expected in (
        ("add", vulkan_add, array("f", (x + y for x, y in zip(a, b)))),
        ("mul", vulkan_mul, array("f", (x * y for x, y in zip(a, b)))),
    ):
        for index, (found, wanted) in enumerate(zip(run(a, b, device=device), expected)):
            if found != wanted:
                raise AssertionError(f"vulkan_{name}: element {index} is {found}, on the CPU it is {wanted}")
    return chosen[device]
