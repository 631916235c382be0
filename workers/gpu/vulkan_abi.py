"""The part of Vulkan's C interface that computing takes, beyond the probe's; the names are the specification's."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

TIMEOUT = 2
COMPUTE = 2  # of a queue family
DEVICE_LOCAL, HOST_VISIBLE, HOST_COHERENT = 1, 2, 4  # of memory
COPY_FROM, COPY_TO, STORAGE = 1, 2, 0x20  # what a buffer is used for
STORAGE_BUFFER = 7  # a descriptor's type
STAGE_COMPUTE, ONE_TIME_SUBMIT, RESETTABLE = 0x20, 1, 2
AT_COMPUTE, AT_TRANSFER, AT_HOST = 0x800, 0x1000, 0x4000  # of a pipeline
SHADER_READ, SHADER_WRITE, TRANSFER_READ, TRANSFER_WRITE, HOST_READ = 0x20, 0x40, 0x800, 0x1000, 0x2000


class Info(Structure):
    """What begins with its own type."""

    TYPE: ClassVar[int]
    _fields_: ClassVar[Sequence[tuple[str, type[Any]]]] = (("sType", c_uint32), ("pNext", c_void_p))

    def __init__(self, **values: Any) -> None:
        super().__init__(sType=self.TYPE, **values)


class VkDeviceQueueCreateInfo(Info):
    TYPE = 2
    _fields_ = (
        ("flags", c_uint32),
        ("queueFamilyIndex", c_uint32),
        ("queueCount", c_uint32),
        ("pQueuePriorities", POINTER(c_float)),
    )


class VkDeviceCreateInfo(Info):
    TYPE = 3
    _fields_ = (
        ("flags", c_uint32),
        ("queueCreateInfoCount", c_uint32),
        ("pQueueCreateInfos", POINTER(VkDeviceQueueCreateInfo)),
        ("enabledLayerCount", c_uint32),
        ("ppEnabledLayerNames", c_void_p),
        ("enabledExtensionCount", c_uint32),
        ("ppEnabledExtensionNames", c_void_p),
        ("pEnabledFeatures", c_void_p),
    )


class VkSubmitInfo(Info):
    TYPE = 4
    _fields_ = (
        ("waitSemaphoreCount", c_uint32),
        ("pWaitSemaphores", c_void_p),
        ("pWaitDstStageMask", c_void_p),
        ("commandBufferCount", c_uint32),
        ("pCommandBuffers", POINTER(c_void_p)),
        ("signalSemaphoreCount", c_uint32),
        ("pSignalSemaphores", c_void_p),
    )


class VkMemoryAllocateInfo(Info):
    TYPE = 5
    _fields_ = (("allocationSize", c_uint64), ("memoryTypeIndex", c_uint32))


class VkFenceCreateInfo(Info):
    TYPE = 8
    _fields_ = (("flags", c_uint32),)


class VkBufferCreateInfo(Info):
    TYPE = 12
    _fields_ = (
        ("flags", c_uint32),
        ("size", c_uint64),
        ("usage", c_uint32),
        ("sharingMode", c_int32),
        ("queueFamilyIndexCount", c_uint32),
        ("pQueueFamilyIndices", c_void_p),
    )


class VkShaderModuleCreateInfo(Info):
    TYPE = 16
    _fields_ = (("flags", c_uint32), ("codeSize", c_uint64), ("pCode", c_char_p))


class VkPipelineShaderStageCreateInfo(Info):
    TYPE = 18
    _fields_ = (
        ("flags", c_uint32),
        ("stage", c_uint32),
        ("module", c_void_p),
        ("pName", c_char_p),
        ("pSpecializationInfo", c_void_p),
    )


class VkComputePipelineCreateInfo(Info):
    TYPE = 29
    _fields_ = (
        ("flags", c_uint32),
        ("stage", VkPipelineShaderStageCreateInfo),
        ("layout", c_void_p),
        ("basePipelineHandle", c_void_p),
        ("basePipelineIndex", c_int32),
    )


class VkPushConstantRange(Structure):
    _fields_ = (("stageFlags", c_uint32), ("offset", c_uint32), ("size", c_uint32))


class VkPipelineLayoutCreateInfo(Info):
    TYPE = 30
    _fields_ = (
        ("flags", c_uint32),
        ("setLayoutCount", c_uint32),
        ("pSetLayouts", POINTER(c_void_p)),
        ("pushConstantRangeCount", c_uint32),
        ("pPushConstantRanges", POINTER(VkPushConstantRange)),
    )


class VkDescriptorSetLayoutBinding(Structure):
    _fields_ = (
        ("binding", c_uint32),
        ("descriptorType", c_int32),
        ("descriptorCount", c_uint32),
        ("stageFlags", c_uint32),
        ("pImmutableSamplers", c_void_p),
    )


class VkDescriptorSetLayoutCreateInfo(Info):
    TYPE = 32
    _fields_ = (
        ("flags", c_uint32),
        ("bindingCount", c_uint32),
        ("pBindings", POINTER(VkDescriptorSetLayoutBinding)),
    )


class VkDescriptorPoolSize(Structure):
    _fields_ = (("type", c_int32), ("descriptorCount", c_uint32))


class VkDescriptorPoolCreateInfo(Info):
    TYPE = 33
    _fields_ = (
        ("flags", c_uint32),
        ("maxSets", c_uint32),
        ("poolSizeCount", c_uint32),
        ("pPoolSizes", POINTER(VkDescriptorPoolSize)),
    )


class VkDescriptorSetAllocateInfo(Info):
    TYPE = 34
    _fields_ = (
        ("descriptorPool", c_void_p),
        ("descriptorSetCount", c_uint32),
        ("pSetLayouts", POINTER(c_void_p)),
    )


class VkDescriptorBufferInfo(Structure):
    _fields_ = (("buffer", c_void_p), ("offset", c_uint64), ("range", c_uint64))


class VkWriteDescriptorSet(Info):
    TYPE = 35
    _fields_ = (
        ("dstSet", c_void_p),
        ("dstBinding", c_uint32),
        ("dstArrayElement", c_uint32),
        ("descriptorCount", c_uint32),
        ("descriptorType", c_int32),
        ("pImageInfo", c_void_p),
        ("pBufferInfo", POINTER(VkDescriptorBufferInfo)),
        ("pTexelBufferView", c_void_p),
    )


class VkCommandPoolCreateInfo(Info):
    TYPE = 39
    _fields_ = (("flags", c_uint32), ("queueFamilyIndex", c_uint32))


class VkCommandBufferAllocateInfo(Info):
    TYPE = 40
    _fields_ = (("commandPool", c_void_p), ("level", c_int32), ("commandBufferCount", c_uint32))


class VkCommandBufferBeginInfo(Info):
    TYPE = 42
    _fields_ = (("flags", c_uint32), ("pInheritanceInfo", c_void_p))


class VkMemoryBarrier(Info):
    TYPE = 46
    _fields_ = (("srcAccessMask", c_uint32), ("dstAccessMask", c_uint32))


class VkBufferCopy(Structure):
    _fields_ = (("srcOffset", c_uint64), ("dstOffset", c_uint64), ("size", c_uint64))


class VkMemoryRequirements(Structure):
    _fields_ = (("size", c_uint64), ("alignment", c_uint64), ("memoryTypeBits", c_uint32))


class VkQueueFamilyProperties(Structure):
    _fields_ = (
        ("queueFlags", c_uint32),
        ("queueCount", c_uint32),
        ("timestampValidBits", c_uint32),
        ("minImageTransferGranularity", c_uint32 * 3),
    )
