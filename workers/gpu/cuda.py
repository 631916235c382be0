"""Computes on one CUDA device through the driver alone: ``python -m workers.gpu.cuda UUID SECONDS``.

No toolkit is needed: the driver compiles the kernel itself. Nothing is freed, as the process ends with the check.
"""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint8, c_uint64, c_void_p
from typing import Any

from workers.gpu.kernels import BYTES, ENTRY, GROUP, PTX, SIZES, difference, expected, given
from workers.gpu.part import Refused, Said, run

_LOG = 4096  # bytes of the compiler's complaint
_JIT_ERROR_LOG, _JIT_ERROR_LOG_BYTES = 5, 6
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Driver:
    """libcuda, whose every refusal is a :class:`Refused` that names the call and CUDA's own word for it."""

    def __init__(self) -> None:
        try:
            self.library: Any = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError as error:
            raise Refused(f"the CUDA driver cannot be loaded: {error}") from error

    def __call__(self, name: str, *arguments: Any) -> None:
        if code := getattr(self.library, name)(*arguments):
            raise Refused(f"{name}: {self.name_of(code)}")

    def name_of(self, code: int) -> str:
        text = c_char_p()
        self.library.cuGetErrorName(c_int(code), byref(text))
        return (text.value or b"error %d" % code).decode(errors="replace")

    def devices(self) -> dict[str, c_int]:
        """uuid, in hexadecimal -> device, of those that this process may see."""
        count = c_int()
        self("cuDeviceGetCount", byref(count))
        found = {}
        newest = "cuDeviceGetUuid_v2" if hasattr(self.library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        for index in range(count.value):
            device, uuid = c_int(), (c_uint8 * 16)()
            self("cuDeviceGet", byref(device), c_int(index))
            self(newest, uuid, device)
            found[bytes(uuid).hex()] = device
        return found


def compute(wanted: str, _seconds: float) -> Said:
    """``wanted``: the device's uuid in hexadecimal. CUDA has no time limit of its own: who asks ends the process."""
    cuda = Driver()
    try:
        cuda("cuInit", c_uint(0))
        devices = cuda.devices()
    except Refused as why:
        raise Refused(f"{why}{_restricted()}") from why
    if wanted not in devices:
        seen = ", ".join(devices) or "none"
        raise Refused(f"CUDA does not see device {wanted}, it sees {seen}{_restricted()}")
    device = devices[wanted]
    name = ctypes.create_string_buffer(256)
    cuda("cuDeviceGetName", name, c_int(len(name)), device)
    context = c_void_p()
    cuda("cuDevicePrimaryCtxRetain", byref(context), device)
    cuda("cuCtxSetCurrent", context)
    function = _compiled(cuda)
    memory = c_uint64()
    cuda("cuMemAlloc_v2", byref(memory), c_size_t(max(SIZES) * BYTES))
    for size in SIZES:
        _run(cuda, function, memory, size)
    return Said(name=name.value.decode(errors="replace"), visible=len(devices), elements=sum(SIZES))


def _restricted() -> str:
    return f" ({_VISIBLE} is {os.environ[_VISIBLE]!r})" if _VISIBLE in os.environ else ""


def _compiled(cuda: Driver) -> c_void_p:
    log = ctypes.create_string_buffer(_LOG)
    options = (c_int * 2)(_JIT_ERROR_LOG, _JIT_ERROR_LOG_BYTES)
    values = (c_void_p * 2)(ctypes.addressof(log), _LOG)
    module, function = c_void_p(), c_void_p()
    try:
        cuda("cuModuleLoadDataEx", byref(module), c_char_p(PTX), c_uint(2), options, values)
    except Refused as why:
        said = " ".join(log.value.decode(errors="replace").split())
        raise Refused(f"{why}: {said}" if said else str(why)) from why
    cuda("cuModuleGetFunction", byref(function), module, c_char_p(ENTRY))
    return function


def _run(cuda: Driver, function: c_void_p, memory: c_uint64, size: int) -> None:
    start = given(size)
    address, _ = start.buffer_info()
    cuda("cuMemcpyHtoD_v2", memory, c_void_p(address), c_size_t(size * BYTES))
    count = c_uint(size)
    arguments = (c_void_p * 2)(ctypes.addressof(memory), ctypes.addressof(count))
    groups, one = c_uint((size + GROUP - 1) // GROUP), c_uint(1)
    cuda(
        *("cuLaunchKernel", function, groups, one, one, c_uint(GROUP), one, one),
        *(c_uint(0), c_void_p(), arguments, c_void_p()),
    )
    cuda("cuCtxSynchronize")
    found = array("I", bytes(size * BYTES))
    address, _ = found.buffer_info()
    cuda("cuMemcpyDtoH_v2", c_void_p(address), memory, c_size_t(size * BYTES))
    if wrong := difference(found, expected(start)):
        raise Refused(f"{wrong} (of a run of {size} elements)")


if __name__ == "__main__":
    run(compute)
