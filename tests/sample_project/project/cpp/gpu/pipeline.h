/*!
 * \file pipeline.h
 * \brief One compute shader with three storage buffers and a count, run once.
 */
#ifndef MLC_SAMPLE_GPU_PIPELINE_H_
#define MLC_SAMPLE_GPU_PIPELINE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "gpu/context.h"

namespace mlc::sample::vulkan {

constexpr std::size_t kBindings = 3;

class Pipeline {
 public:
  /*! \brief `words` is SPIR-V of `bytes` bytes whose entry point is main. */
  Pipeline(const Device& device, const uint32_t* words, std::size_t bytes);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /*! \brief Runs `groups` work groups over the buffers and waits until the device is done. */
  void Run(const std::array<const HostBuffer*, kBindings>& buffers, uint32_t count, uint32_t groups);

 private:
  void BindBuffers(const std::array<const HostBuffer*, kBindings>& buffers);
  void Record(uint32_t count, uint32_t groups);

  const Device& device_;
  VkShaderModule shader_ = VK_NULL_HANDLE;
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  VkPipeline pipeline_ = VK_NULL_HANDLE;
  VkDescriptorPool descriptors_ = VK_NULL_HANDLE;
  VkDescriptorSet set_ = VK_NULL_HANDLE;
  VkCommandPool commands_ = VK_NULL_HANDLE;
  VkCommandBuffer command_ = VK_NULL_HANDLE;
};

}  // namespace mlc::sample::vulkan

#endif  // MLC_SAMPLE_GPU_PIPELINE_H_
