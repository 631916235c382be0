"""The part of Vulkan's C interface that the probe speaks, of a 64-bit machine; the names are the specification's."""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, Structure, c_char, c_char_p, c_int32, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any

SUCCESS, INCOMPLETE, INCOMPATIBLE_DRIVER = 0, 5, -9
DEVICE_LOCAL = 1
KINDS = {0: "other", 1: "integrated", 2: "discrete", 3: "virtual", 4: "software"}
RESULTS = {
    -1: "VK_ERROR_OUT_OF_HOST_MEMORY",
    -2: "VK_ERROR_OUT_OF_DEVICE_MEMORY",
    -3: "VK_ERROR_INITIALIZATION_FAILED",
    -4: "VK_ERROR_DEVICE_LOST",
    -6: "VK_ERROR_LAYER_NOT_PRESENT",
    INCOMPATIBLE_DRIVER: "VK_ERROR_INCOMPATIBLE_DRIVER",
}

_TYPE_INSTANCE_CREATE_INFO, _TYPE_APPLICATION_INFO = 1, 0
_TYPE_PROPERTIES_2 = 1000059001
_TYPE_MEMORY_PROPERTIES_2 = 1000059006
_TYPE_ID_PROPERTIES = 1000071004
_TYPE_DRIVER_PROPERTIES = 1000196000
_TYPE_MEMORY_BUDGET = 1000237000


def version(major: int, minor: int, patch: int = 0) -> int:
    return major << 22 | minor << 12 | patch


def version_text(number: int) -> str:
    return f"{number >> 22 & 0x7F}.{number >> 12 & 0x3FF}.{number & 0xFFF}"


class VkApplicationInfo(Structure):
    _fields_ = (
        ("sType", c_uint32),
        ("pNext", c_void_p),
        ("pApplicationName", c_char_p),
        ("applicationVersion", c_uint32),
        ("pEngineName", c_char_p),
        ("engineVersion", c_uint32),
        ("apiVersion", c_uint32),
    )


class VkInstanceCreateInfo(Structure):
    _fields_ = (
        ("sType", c_uint32),
        ("pNext", c_void_p),
        ("flags", c_uint32),
        ("pApplicationInfo", POINTER(VkApplicationInfo)),
        ("enabledLayerCount", c_uint32),
        ("ppEnabledLayerNames", c_void_p),
        ("enabledExtensionCount", c_uint32),
        ("ppEnabledExtensionNames", c_void_p),
    )


class VkPhysicalDeviceProperties(Structure):
    _fields_ = (
        ("apiVersion", c_uint32),
        ("driverVersion", c_uint32),
        ("vendorID", c_uint32),
        ("deviceID", c_uint32),
        ("deviceType", c_int32),
        ("deviceName", c_char * 256),
        ("pipelineCacheUUID", c_uint8 * 16),
        ("limits", c_uint64 * 63),
        ("sparseProperties", c_uint32 * 5),
    )


class VkPhysicalDeviceProperties2(Structure):
    _fields_ = (("sType", c_uint32), ("pNext", c_void_p), ("properties", VkPhysicalDeviceProperties))


class VkPhysicalDeviceIDProperties(Structure):
    _fields_ = (
        ("sType", c_uint32),
        ("pNext", c_void_p),
        ("deviceUUID", c_uint8 * 16),
        ("driverUUID", c_uint8 * 16),
        ("deviceLUID", c_uint8 * 8),
        ("deviceNodeMask", c_uint32),
        ("deviceLUIDValid", c_uint32),
    )


class VkPhysicalDeviceDriverProperties(Structure):
    _fields_ = (
        ("sType", c_uint32),
        ("pNext", c_void_p),
        ("driverID", c_int32),
        ("driverName", c_char * 256),
        ("driverInfo", c_char * 256),
        ("conformanceVersion", c_uint8 * 4),
    )


class VkMemoryHeap(Structure):
    _fields_ = (("size", c_uint64), ("flags", c_uint32))


class VkPhysicalDeviceMemoryProperties(Structure):
    _fields_ = (
        ("memoryTypeCount", c_uint32),
        ("memoryTypes", c_uint32 * 2 * 32),
        ("memoryHeapCount", c_uint32),
        ("memoryHeaps", VkMemoryHeap * 16),
    )


class VkPhysicalDeviceMemoryProperties2(Structure):
    _fields_ = (("sType", c_uint32), ("pNext", c_void_p), ("memoryProperties", VkPhysicalDeviceMemoryProperties))


class VkPhysicalDeviceMemoryBudgetPropertiesEXT(Structure):
    _fields_ = (
        ("sType", c_uint32),
        ("pNext", c_void_p),
        ("heapBudget", c_uint64 * 16),
        ("heapUsage", c_uint64 * 16),
    )


class VkExtensionProperties(Structure):
    _fields_ = (("extensionName", c_char * 256), ("specVersion", c_uint32))


def loader() -> ctypes.CDLL:
    """Raises OSError where there is none."""
    library = ctypes.CDLL("vulkan-1.dll" if sys.platform == "win32" else "libvulkan.so.1")
    for name in ("vkDestroyInstance", "vkGetPhysicalDeviceProperties", "vkGetPhysicalDeviceMemoryProperties"):
        getattr(library, name).restype = None
    for name in ("vkGetPhysicalDeviceProperties2", "vkGetPhysicalDeviceMemoryProperties2"):
        if hasattr(library, name):  # of Vulkan 1.1
            getattr(library, name).restype = None
    return library


def instance_info(api: int) -> VkInstanceCreateInfo:
    application = VkApplicationInfo(sType=_TYPE_APPLICATION_INFO, pApplicationName=b"mlc-ci-worker", apiVersion=api)
    return VkInstanceCreateInfo(sType=_TYPE_INSTANCE_CREATE_INFO, pApplicationInfo=ctypes.pointer(application))


def properties_2(*more: Structure) -> VkPhysicalDeviceProperties2:
    return VkPhysicalDeviceProperties2(sType=_TYPE_PROPERTIES_2, pNext=_chained(more))


def memory_properties_2(*more: Structure) -> VkPhysicalDeviceMemoryProperties2:
    return VkPhysicalDeviceMemoryProperties2(sType=_TYPE_MEMORY_PROPERTIES_2, pNext=_chained(more))


def id_properties() -> VkPhysicalDeviceIDProperties:
    return VkPhysicalDeviceIDProperties(sType=_TYPE_ID_PROPERTIES)


def driver_properties() -> VkPhysicalDeviceDriverProperties:
    return VkPhysicalDeviceDriverProperties(sType=_TYPE_DRIVER_PROPERTIES)


def memory_budget() -> VkPhysicalDeviceMemoryBudgetPropertiesEXT:
    return VkPhysicalDeviceMemoryBudgetPropertiesEXT(sType=_TYPE_MEMORY_BUDGET)


def _chained(more: tuple[Any, ...]) -> int | None:
    """The address of the first, with each pointing to the next. The caller keeps them alive."""
    following: int | None = None
    for each in reversed(more):
        each.pNext = following
        following = ctypes.addressof(each)
    return following
