/*!
 * \file context.h
 * \brief Owners of Vulkan objects: what the constructor made, the destructor destroys.
 */
#ifndef MLC_SAMPLE_GPU_CONTEXT_H_
#define MLC_SAMPLE_GPU_CONTEXT_H_

#include <vulkan/vulkan.h>

#include <cstdint>
#include <vector>

namespace mlc::sample::vulkan {

/*! \brief Throws RuntimeError naming the call when the result is an error. */
void Check(VkResult result, const char* call);

/*! \brief The loader's instance; one without devices where no driver is installed. */
class Instance {
 public:
  Instance();
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  /*! \brief The devices that have a queue for compute. */
  std::vector<VkPhysicalDevice> ComputeDevices() const;

 private:
  VkInstance instance_ = VK_NULL_HANDLE;
};

/*! \brief The index of the first queue family that computes, or -1. */
int64_t ComputeQueueFamily(VkPhysicalDevice device);

/*! \brief A logical device with one compute queue. */
class Device {
 public:
  explicit Device(VkPhysicalDevice physical);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  VkDevice get() const { return device_; }
  uint32_t queue_family() const { return queue_family_; }
  VkQueue queue() const { return queue_; }

  /*! \brief A memory type among `allowed_types` that the host sees without flushing. */
  uint32_t HostMemoryType(uint32_t allowed_types) const;

 private:
  VkPhysicalDevice physical_;
  uint32_t queue_family_ = 0;
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
};

/*! \brief A storage buffer that the host can read and write. */
class HostBuffer {
 public:
  HostBuffer(const Device& device, VkDeviceSize bytes);
  ~HostBuffer();
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  VkBuffer get() const { return buffer_; }
  VkDeviceSize size() const { return bytes_; }
  void Write(const std::vector<float>& values);
  std::vector<float> Read(std::size_t count) const;

 private:
  const Device& device_;
  VkDeviceSize bytes_;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
  void* mapped_ = nullptr;
};

}  // namespace mlc::sample::vulkan

#endif  // MLC_SAMPLE_GPU_CONTEXT_H_
