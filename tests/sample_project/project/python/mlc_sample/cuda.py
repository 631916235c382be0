"""Vector operations on a CUDA device."""

from array import array
from dataclasses import dataclass

import tvm_ffi

from . import base


@tvm_ffi.register_error("CudaUnavailable")
class CudaUnavailable(RuntimeError):
    """There is no CUDA to run on: built without it, or no driver with a device for this process."""


@dataclass(frozen=True)
class CudaDevice:
    """A device that this process sees; `uuid` is the board's, as CUDA_VISIBLE_DEVICES names it."""

    index: int
    name: str
    uuid: str
    compute: str


def cuda_enabled():
    """Whether the library was built with USE_CUDA ON."""
    return bool(base.function("cuda_enabled")())


def cuda_devices():
    """The devices that this process sees. Raises CudaUnavailable without any, and in a build without CUDA."""
    return [
        CudaDevice(index=index, name=str(found["name"]), uuid=str(found["uuid"]), compute=str(found["compute"]))
        for index, found in enumerate(base.function("cuda_devices")())
    ]


def cuda_add(a, b, *, device=0):
    """a + b, element by element in 32-bit floats, computed by the device. Raises CudaUnavailable without one."""
    result = base.function("cuda_add")(array("f", a).tobytes(), array("f", b).tobytes(), device)
    return array("f", bytes(result)).tolist()


def cuda_self_test(count=10007, *, device=0):
    """Adds on the device, compares with the CPU and returns the device.

    `count` is no multiple of the block's size on purpose. Raises AssertionError naming the first difference.
    """
    chosen = cuda_devices()
    a = array("f", (index * 0.25 - 100.0 for index in range(count)))
    b = array("f", (7.5 - index * 0.5 for index in range(count)))
    expected = array("f", (x + y for x, y in zip(a, b)))
    for index, (found, wanted) in enumerate(zip(cuda_add(a, b, device=device), expected)):
        if found != wanted:
            raise AssertionError(f"cuda_add: element {index} is {found}, on the CPU it is {wanted}")
    return chosen[device]
