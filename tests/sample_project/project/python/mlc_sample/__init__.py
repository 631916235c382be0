"""The Python side of the sample project.

Importing it loads the two libraries beside this file; `SKIP_LOADING_MLC_SAMPLE_SO=1` leaves them out, for work on the
Python code without a build.
"""

from .base import __version__, library_version
from .cuda import CudaDevice, CudaUnavailable, cuda_add, cuda_devices, cuda_enabled, cuda_self_test
from .text import checksum, decode, encode, sample_top_p
from .vulkan import (
    VulkanDevice,
    VulkanUnavailable,
    vulkan_add,
    vulkan_devices,
    vulkan_enabled,
    vulkan_mul,
    vulkan_self_test,
)

__all__ = [
    "CudaDevice",
    "CudaUnavailable",
    "VulkanDevice",
    "VulkanUnavailable",
    "__version__",
    "checksum",
    "cuda_add",
    "cuda_devices",
    "cuda_enabled",
    "cuda_self_test",
    "decode",
    "encode",
    "library_version",
    "sample_top_p",
    "vulkan_add",
    "vulkan_devices",
    "vulkan_enabled",
    "vulkan_mul",
    "vulkan_self_test",
]
