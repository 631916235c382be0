"""Computes on one Vulkan device: ``python -m workers.gpu.vulkan UUID SECONDS``, or its number where it has no uuid.

The values are copied to the device's own memory, worked on there and copied back, as a build would. Nothing is freed:
the process ends with the check.
"""

from __future__ import annotations

import ctypes
from array import array
from ctypes import byref, c_char_p, c_float, c_int32, c_uint32, c_uint64, c_void_p, pointer
from typing import Any

from workers.gpu import vulkan_abi as abi
from workers.gpu.kernels import BYTES, GROUP, SIZES, SPIRV, difference, expected, given
from workers.gpu.part import Refused, Said, run
from workers.probe import vulkan
from workers.probe.facts import Gpu
from workers.probe.part import Found
from workers.probe.vulkan_abi import RESULTS, VkPhysicalDeviceMemoryProperties

_MOST = max(SIZES) * BYTES
_ON_HOST = abi.HOST_VISIBLE | abi.HOST_COHERENT


def compute(wanted: str, seconds: float) -> Said:
    """``seconds``: what the device may take for each run before it counts as hanging."""
    reached = vulkan.reach()
    if isinstance(reached, Found):
        raise Refused("; ".join([each.why for each in reached.absent] + [each.what for each in reached.problems]))
    devices = [vulkan.device(reached.library, index, handle) for index, handle in enumerate(reached.devices)]
    number = next((index for index, gpu in enumerate(devices) if _is(gpu, wanted)), None)
    if number is None:
        raise Refused(f"Vulkan does not see device {wanted}, it sees {', '.join(gpu.id for gpu in devices)}")
    check = _Check(reached.library, reached.devices[number], seconds)
    for size in SIZES:
        check.run(size)
    return Said(name=devices[number].name, visible=len(devices), elements=sum(SIZES))


def _is(gpu: Gpu, wanted: str) -> bool:
    if gpu.vulkan is None:
        return False
    return wanted == (gpu.vulkan.uuid or str(gpu.vulkan.index))


class _Check:
    """One pipeline on one device, and a buffer on either side. Every refusal names its call."""

    def __init__(self, library: Any, physical: c_void_p, seconds: float) -> None:
        self.library, self.physical, self.seconds = library, physical, seconds
        self.memory = VkPhysicalDeviceMemoryProperties()
        library.vkGetPhysicalDeviceMemoryProperties(physical, byref(self.memory))
        family = self._family()
        self.device = c_void_p()
        queue = abi.VkDeviceQueueCreateInfo(
            queueFamilyIndex=family, queueCount=1, pQueuePriorities=pointer(c_float(1.0))
        )
        info = abi.VkDeviceCreateInfo(queueCreateInfoCount=1, pQueueCreateInfos=pointer(queue))
        self.call("vkCreateDevice", physical, byref(info), None, byref(self.device))
        self.queue = c_void_p()
        library.vkGetDeviceQueue(self.device, c_uint32(family), c_uint32(0), byref(self.queue))
        self.on_host, host_memory = self._buffer(abi.COPY_FROM | abi.COPY_TO, _ON_HOST)
        self.on_device, _ = self._buffer(abi.STORAGE | abi.COPY_FROM | abi.COPY_TO, abi.DEVICE_LOCAL)
        self.mapped = c_void_p()
        whole = (c_uint64(0), c_uint64(_MOST), c_uint32(0))
        self.call("vkMapMemory", self.device, host_memory, *whole, byref(self.mapped))
        set_layout = self._set_layout()
        self.layout = self._layout(set_layout)
        self.pipeline = self._pipeline()
        self.descriptors = self._descriptors(set_layout)
        self.commands = self._commands(family)
        self.fence = self.create("vkCreateFence", abi.VkFenceCreateInfo())

    def call(self, name: str, *arguments: Any) -> None:
        if result := getattr(self.library, name)(*arguments):
            raise Refused(f"{name}: {RESULTS.get(result, f'result {result}')}")

    def create(self, name: str, info: abi.Info) -> c_void_p:
        made = c_void_p()
        self.call(name, self.device, byref(info), None, byref(made))
        return made

    def _family(self) -> int:
        count = c_uint32()
        ask = self.library.vkGetPhysicalDeviceQueueFamilyProperties
        ask(self.physical, byref(count), None)
        families = (abi.VkQueueFamilyProperties * count.value)()
        ask(self.physical, byref(count), families)
        for index, family in enumerate(families):
            if family.queueFlags & abi.COMPUTE:
                return index
        raise Refused("the device has no queue that computes")

    def _buffer(self, usage: int, wanted: int) -> tuple[c_void_p, c_void_p]:
        """The buffer and its memory."""
        buffer = self.create("vkCreateBuffer", abi.VkBufferCreateInfo(size=_MOST, usage=usage))
        needs = abi.VkMemoryRequirements()
        self.library.vkGetBufferMemoryRequirements(self.device, buffer, byref(needs))
        kinds = self.memory.memoryTypes[: self.memory.memoryTypeCount]  # each: its flags, its heap
        for index, (flags, _heap) in enumerate(kinds):
            if needs.memoryTypeBits >> index & 1 and flags & wanted == wanted:
                break
        else:
            raise Refused("the device has no memory " + ("that the host sees" if wanted == _ON_HOST else "of its own"))
        memory = self.create(
            "vkAllocateMemory", abi.VkMemoryAllocateInfo(allocationSize=needs.size, memoryTypeIndex=index)
        )
        self.call("vkBindBufferMemory", self.device, buffer, memory, c_uint64(0))
        return buffer, memory

    def _set_layout(self) -> c_void_p:
        binding = abi.VkDescriptorSetLayoutBinding(
            descriptorType=abi.STORAGE_BUFFER, descriptorCount=1, stageFlags=abi.STAGE_COMPUTE
        )
        info = abi.VkDescriptorSetLayoutCreateInfo(bindingCount=1, pBindings=pointer(binding))
        return self.create("vkCreateDescriptorSetLayout", info)

    def _layout(self, set_layout: c_void_p) -> c_void_p:
        pushed = abi.VkPushConstantRange(stageFlags=abi.STAGE_COMPUTE, size=BYTES)
        info = abi.VkPipelineLayoutCreateInfo(
            setLayoutCount=1,
            pSetLayouts=pointer(set_layout),
            pushConstantRangeCount=1,
            pPushConstantRanges=pointer(pushed),
        )
        return self.create("vkCreatePipelineLayout", info)

    def _pipeline(self) -> c_void_p:
        code = abi.VkShaderModuleCreateInfo(codeSize=len(SPIRV), pCode=c_char_p(SPIRV))
        shader = self.create("vkCreateShaderModule", code)
        stage = abi.VkPipelineShaderStageCreateInfo(stage=abi.STAGE_COMPUTE, module=shader, pName=b"main")
        info = abi.VkComputePipelineCreateInfo(stage=stage, layout=self.layout)
        made = c_void_p()
        self.call("vkCreateComputePipelines", self.device, None, c_uint32(1), byref(info), None, byref(made))
        return made

    def _descriptors(self, set_layout: c_void_p) -> c_void_p:
        size = abi.VkDescriptorPoolSize(type=abi.STORAGE_BUFFER, descriptorCount=1)
        pool = abi.VkDescriptorPoolCreateInfo(maxSets=1, poolSizeCount=1, pPoolSizes=pointer(size))
        info = abi.VkDescriptorSetAllocateInfo(
            descriptorPool=self.create("vkCreateDescriptorPool", pool),
            descriptorSetCount=1,
            pSetLayouts=pointer(set_layout),
        )
        found = c_void_p()
        self.call("vkAllocateDescriptorSets", self.device, byref(info), byref(found))
        buffer = abi.VkDescriptorBufferInfo(buffer=self.on_device, offset=0, range=_MOST)
        write = abi.VkWriteDescriptorSet(
            dstSet=found, descriptorCount=1, descriptorType=abi.STORAGE_BUFFER, pBufferInfo=pointer(buffer)
        )
        self.library.vkUpdateDescriptorSets(self.device, c_uint32(1), byref(write), c_uint32(0), None)
        return found

    def _commands(self, family: int) -> c_void_p:
        pool = self.create(
            "vkCreateCommandPool", abi.VkCommandPoolCreateInfo(flags=abi.RESETTABLE, queueFamilyIndex=family)
        )
        info = abi.VkCommandBufferAllocateInfo(commandPool=pool, commandBufferCount=1)
        found = c_void_p()
        self.call("vkAllocateCommandBuffers", self.device, byref(info), byref(found))
        return found

    def run(self, size: int) -> None:
        start = given(size)
        ctypes.memmove(self.mapped, start.tobytes(), size * BYTES)
        self._record(size)
        submit = abi.VkSubmitInfo(commandBufferCount=1, pCommandBuffers=pointer(self.commands))
        self.call("vkQueueSubmit", self.queue, c_uint32(1), byref(submit), self.fence)
        limit = c_uint64(int(self.seconds * 1e9))
        fence = (self.device, c_uint32(1), byref(self.fence))
        result = self.library.vkWaitForFences(*fence, c_uint32(1), limit)
        if result == abi.TIMEOUT:
            raise Refused(f"the device hangs: {size} elements were not computed in {self.seconds:g} s")
        if result:
            raise Refused(f"vkWaitForFences: {RESULTS.get(result, f'result {result}')}")
        self.call("vkResetFences", *fence)
        found = array("I", ctypes.string_at(self.mapped, size * BYTES))
        if wrong := difference(found, expected(start)):
            raise Refused(f"{wrong} (of a run of {size} elements)")

    def _record(self, size: int) -> None:
        """Copy there, compute, copy back."""
        do, commands = self.library, self.commands
        begin = abi.VkCommandBufferBeginInfo(flags=abi.ONE_TIME_SUBMIT)
        self.call("vkBeginCommandBuffer", commands, byref(begin))
        all_of_it = abi.VkBufferCopy(size=size * BYTES)
        do.vkCmdCopyBuffer(commands, self.on_host, self.on_device, c_uint32(1), byref(all_of_it))
        self._barrier(abi.AT_TRANSFER, abi.TRANSFER_WRITE, abi.AT_COMPUTE, abi.SHADER_READ | abi.SHADER_WRITE)
        do.vkCmdBindPipeline(commands, c_int32(1), self.pipeline)
        sets = (c_uint32(0), c_uint32(1), byref(self.descriptors), c_uint32(0), None)
        do.vkCmdBindDescriptorSets(commands, c_int32(1), self.layout, *sets)
        pushed = (c_uint32(abi.STAGE_COMPUTE), c_uint32(0), c_uint32(BYTES), byref(c_uint32(size)))
        do.vkCmdPushConstants(commands, self.layout, *pushed)
        do.vkCmdDispatch(commands, c_uint32((size + GROUP - 1) // GROUP), c_uint32(1), c_uint32(1))
        self._barrier(abi.AT_COMPUTE, abi.SHADER_WRITE, abi.AT_TRANSFER, abi.TRANSFER_READ)
        do.vkCmdCopyBuffer(commands, self.on_device, self.on_host, c_uint32(1), byref(all_of_it))
        self._barrier(abi.AT_TRANSFER, abi.TRANSFER_WRITE, abi.AT_HOST, abi.HOST_READ)
        self.call("vkEndCommandBuffer", commands)

    def _barrier(self, after: int, written: int, before: int, read: int) -> None:
        barrier = abi.VkMemoryBarrier(srcAccessMask=written, dstAccessMask=read)
        nothing = (c_uint32(0), None, c_uint32(0), None)
        stages = (c_uint32(after), c_uint32(before), c_uint32(0))
        self.library.vkCmdPipelineBarrier(self.commands, *stages, c_uint32(1), byref(barrier), *nothing)


if __name__ == "__main__":
    run(compute)
