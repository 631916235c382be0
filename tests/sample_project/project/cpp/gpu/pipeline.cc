/*!
 * \file pipeline.cc
 */
#include "gpu/pipeline.h"

namespace mlc::sample::vulkan {

Pipeline::Pipeline(const Device& device, const uint32_t* words, std::size_t bytes) : device_(device) {
  VkShaderModuleCreateInfo shader{};
  shader.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
  shader.codeSize = bytes;
  shader.pCode = words;
  Check(vkCreateShaderModule(device_.get(), &shader, nullptr, &shader_), "vkCreateShaderModule");

  std::array<VkDescriptorSetLayoutBinding, kBindings> bindings{};
  for (uint32_t index = 0; index < kBindings; ++index) {
    bindings[index].binding = index;
    bindings[index].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    bindings[index].descriptorCount = 1;
    bindings[index].stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
  }
  VkDescriptorSetLayoutCreateInfo set_layout{};
  set_layout.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
  set_layout.bindingCount = kBindings;
  set_layout.pBindings = bindings.data();
  Check(vkCreateDescriptorSetLayout(device_.get(), &set_layout, nullptr, &set_layout_), "vkCreateDescriptorSetLayout");

  VkPushConstantRange push{};
  push.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
  push.size = sizeof(uint32_t);
  VkPipelineLayoutCreateInfo layout{};
  layout.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
  layout.setLayoutCount = 1;
  layout.pSetLayouts = &set_layout_;
  layout.pushConstantRangeCount = 1;
  layout.pPushConstantRanges = &push;
  Check(vkCreatePipelineLayout(device_.get(), &layout, nullptr, &layout_), "vkCreatePipelineLayout");

  VkComputePipelineCreateInfo pipeline{};
  pipeline.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
  pipeline.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  pipeline.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  pipeline.stage.module = shader_;
  pipeline.stage.pName = "main";
  pipeline.layout = layout_;
  Check(vkCreateComputePipelines(device_.get(), VK_NULL_HANDLE, 1, &pipeline, nullptr, &pipeline_),
        "vkCreateComputePipelines");

  VkDescriptorPoolSize pool_size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, kBindings};
  VkDescriptorPoolCreateInfo pool{};
  pool.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
  pool.maxSets = 1;
  pool.poolSizeCount = 1;
  pool.pPoolSizes = &pool_size;
  Check(vkCreateDescriptorPool(device_.get(), &pool, nullptr, &descriptors_), "vkCreateDescriptorPool");
  VkDescriptorSetAllocateInfo set{};
  set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
  set.descriptorPool = descriptors_;
  set.descriptorSetCount = 1;
  set.pSetLayouts = &set_layout_;
  Check(vkAllocateDescriptorSets(device_.get(), &set, &set_), "vkAllocateDescriptorSets");

  VkCommandPoolCreateInfo commands{};
  commands.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  commands.queueFamilyIndex = device_.queue_family();
  Check(vkCreateCommandPool(device_.get(), &commands, nullptr, &commands_), "vkCreateCommandPool");
  VkCommandBufferAllocateInfo command{};
  command.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  command.commandPool = commands_;
  command.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  command.commandBufferCount = 1;
  Check(vkAllocateCommandBuffers(device_.get(), &command, &command_), "vkAllocateCommandBuffers");
}

Pipeline::~Pipeline() {
  vkDestroyCommandPool(device_.get(), commands_, nullptr);
  vkDestroyDescriptorPool(device_.get(), descriptors_, nullptr);
  vkDestroyPipeline(device_.get(), pipeline_, nullptr);
  vkDestroyPipelineLayout(device_.get(), layout_, nullptr);
  vkDestroyDescriptorSetLayout(device_.get(), set_layout_, nullptr);
  vkDestroyShaderModule(device_.get(), shader_, nullptr);
}

void Pipeline::Run(const std::array<const HostBuffer*, kBindings>& buffers, uint32_t count, uint32_t groups) {
  BindBuffers(buffers);
  Record(count, groups);
  VkSubmitInfo submit{};
  submit.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  submit.commandBufferCount = 1;
  submit.pCommandBuffers = &command_;
  Check(vkQueueSubmit(device_.queue(), 1, &submit, VK_NULL_HANDLE), "vkQueueSubmit");
  Check(vkQueueWaitIdle(device_.queue()), "vkQueueWaitIdle");
}

void Pipeline::BindBuffers(const std::array<const HostBuffer*, kBindings>& buffers) {
  std::array<VkDescriptorBufferInfo, kBindings> infos{};
  std::array<VkWriteDescriptorSet, kBindings> writes{};
  for (uint32_t index = 0; index < kBindings; ++index) {
    infos[index] = {buffers[index]->get(), 0, buffers[index]->size()};
    writes[index].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    writes[index].dstSet = set_;
    writes[index].dstBinding = index;
    writes[index].descriptorCount = 1;
    writes[index].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    writes[index].pBufferInfo = &infos[index];
  }
  vkUpdateDescriptorSets(device_.get(), kBindings, writes.data(), 0, nullptr);
}

void Pipeline::Record(uint32_t count, uint32_t groups) {
  VkCommandBufferBeginInfo begin{};
  begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  begin.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  Check(vkBeginCommandBuffer(command_, &begin), "vkBeginCommandBuffer");
  vkCmdBindPipeline(command_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline_);
  vkCmdBindDescriptorSets(command_, VK_PIPELINE_BIND_POINT_COMPUTE, layout_, 0, 1, &set_, 0, nullptr);
  vkCmdPushConstants(command_, layout_, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(count), &count);
  vkCmdDispatch(command_, groups, 1, 1);
  // The host reads the result: make the shader's writes visible to it.
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
  vkCmdPipelineBarrier(command_, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0,
                       nullptr, 0, nullptr);
  Check(vkEndCommandBuffer(command_), "vkEndCommandBuffer");
}

}  // namespace mlc::sample::vulkan
