/*!
 * \file context.cc
 */
#include "gpu/context.h"

#include <tvm/ffi/error.h>

#include <cstring>

namespace mlc::sample::vulkan {

void Check(VkResult result, const char* call) {
  if (result == VK_SUCCESS) return;
  TVM_FFI_THROW(RuntimeError) << call << " failed with VkResult " << static_cast<int>(result);
}

Instance::Instance() {
  VkApplicationInfo application{};
  application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  application.pApplicationName = "mlc_sample";
  application.apiVersion = VK_API_VERSION_1_0;
  VkInstanceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  info.pApplicationInfo = &application;
  const VkResult result = vkCreateInstance(&info, nullptr, &instance_);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER) return;  // the loader's way to say that there is no driver
  Check(result, "vkCreateInstance");
}

Instance::~Instance() {
  if (instance_ != VK_NULL_HANDLE) vkDestroyInstance(instance_, nullptr);
}

std::vector<VkPhysicalDevice> Instance::ComputeDevices() const {
  if (instance_ == VK_NULL_HANDLE) return {};
  uint32_t count = 0;
  Check(vkEnumeratePhysicalDevices(instance_, &count, nullptr), "vkEnumeratePhysicalDevices");
  std::vector<VkPhysicalDevice> devices(count);
  if (count > 0) {
    Check(vkEnumeratePhysicalDevices(instance_, &count, devices.data()), "vkEnumeratePhysicalDevices");
  }
  std::vector<VkPhysicalDevice> compute;
  for (VkPhysicalDevice device : devices) {
    if (ComputeQueueFamily(device) >= 0) compute.push_back(device);
  }
  return compute;
}

int64_t ComputeQueueFamily(VkPhysicalDevice device) {
  uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  for (uint32_t index = 0; index < count; ++index) {
    if (families[index].queueFlags & VK_QUEUE_COMPUTE_BIT) return index;
  }
  return -1;
}

Device::Device(VkPhysicalDevice physical) : physical_(physical) {
  queue_family_ = static_cast<uint32_t>(ComputeQueueFamily(physical));
  const float priority = 1.0f;
  VkDeviceQueueCreateInfo queue{};
  queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queue.queueFamilyIndex = queue_family_;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  Check(vkCreateDevice(physical, &info, nullptr, &device_), "vkCreateDevice");
  vkGetDeviceQueue(device_, queue_family_, 0, &queue_);
}

Device::~Device() { vkDestroyDevice(device_, nullptr); }

uint32_t Device::HostMemoryType(uint32_t allowed_types) const {
  constexpr VkMemoryPropertyFlags kWanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  VkPhysicalDeviceMemoryProperties properties;
  vkGetPhysicalDeviceMemoryProperties(physical_, &properties);
  for (uint32_t index = 0; index < properties.memoryTypeCount; ++index) {
    const bool allowed = (allowed_types >> index) & 1u;
    if (allowed && (properties.memoryTypes[index].propertyFlags & kWanted) == kWanted) return index;
  }
  TVM_FFI_THROW(RuntimeError) << "the Vulkan device has no memory that the host can see";
  throw;  // never reached: tells the compiler so
}

HostBuffer::HostBuffer(const Device& device, VkDeviceSize bytes) : device_(device), bytes_(bytes) {
  VkBufferCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  info.size = bytes;
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  Check(vkCreateBuffer(device_.get(), &info, nullptr, &buffer_), "vkCreateBuffer");

  VkMemoryRequirements requirements;
  vkGetBufferMemoryRequirements(device_.get(), buffer_, &requirements);
  VkMemoryAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  allocate.allocationSize = requirements.size;
  allocate.memoryTypeIndex = device_.HostMemoryType(requirements.memoryTypeBits);
  Check(vkAllocateMemory(device_.get(), &allocate, nullptr, &memory_), "vkAllocateMemory");
  Check(vkBindBufferMemory(device_.get(), buffer_, memory_, 0), "vkBindBufferMemory");
  Check(vkMapMemory(device_.get(), memory_, 0, VK_WHOLE_SIZE, 0, &mapped_), "vkMapMemory");
}

HostBuffer::~HostBuffer() {
  vkDestroyBuffer(device_.get(), buffer_, nullptr);
  vkFreeMemory(device_.get(), memory_, nullptr);
}

void HostBuffer::Write(const std::vector<float>& values) {
  std::memcpy(mapped_, values.data(), values.size() * sizeof(float));
}

std::vector<float> HostBuffer::Read(std::size_t count) const {
  std::vector<float> values(count);
  std::memcpy(values.data(), mapped_, count * sizeof(float));
  return values;
}

}  // namespace mlc::sample::vulkan
