/*!
 * \file vulkan_ops.cc
 * \brief The public functions of vulkan_ops.h on top of the owners in context.h and pipeline.h.
 */
#include <tvm/ffi/error.h>

#include <vector_add_spv.h>
#include <vector_mul_spv.h>

#include "gpu/context.h"
#include "gpu/pipeline.h"
#include "gpu/vulkan_ops.h"

namespace mlc::sample {
namespace {

/*! \brief local_size_x of the shaders. */
constexpr uint32_t kGroupSize = 64;
/*! \brief What every device allows at least (maxComputeWorkGroupCount[0]). */
constexpr uint32_t kMaxGroups = 65535;

std::string TypeName(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return "cpu";
    default:
      return "other";
  }
}

VulkanDeviceInfo Describe(VkPhysicalDevice device) {
  VkPhysicalDeviceProperties properties;
  vkGetPhysicalDeviceProperties(device, &properties);
  const std::string version = std::to_string(VK_API_VERSION_MAJOR(properties.apiVersion)) + "." +
                              std::to_string(VK_API_VERSION_MINOR(properties.apiVersion)) + "." +
                              std::to_string(VK_API_VERSION_PATCH(properties.apiVersion));
  return {properties.deviceName, TypeName(properties.deviceType), version, properties.vendorID, properties.deviceID};
}

}  // namespace

bool VulkanEnabled() { return true; }

std::vector<VulkanDeviceInfo> VulkanDevices() {
  const vulkan::Instance instance;
  std::vector<VulkanDeviceInfo> infos;
  for (VkPhysicalDevice device : instance.ComputeDevices()) infos.push_back(Describe(device));
  return infos;
}

std::vector<float> VulkanVectorOp(VectorOp op, const std::vector<float>& a, const std::vector<float>& b,
                                  int64_t device_index) {
  if (a.size() != b.size()) {
    TVM_FFI_THROW(ValueError) << "the vectors have " << a.size() << " and " << b.size() << " elements";
  }
  const vulkan::Instance instance;
  const std::vector<VkPhysicalDevice> devices = instance.ComputeDevices();
  if (devices.empty()) {
    TVM_FFI_THROW(VulkanUnavailable) << "no Vulkan device was found: install a driver (a software one is in Debian's "
                                     << "mesa-vulkan-drivers) or point VK_DRIVER_FILES at the .json file of one";
  }
  if (device_index < 0 || device_index >= static_cast<int64_t>(devices.size())) {
    TVM_FFI_THROW(ValueError) << "there is no Vulkan device " << device_index << ": the devices are 0 to "
                              << devices.size() - 1;
  }
  if (a.empty()) return {};
  if (a.size() > static_cast<std::size_t>(kGroupSize) * kMaxGroups) {
    TVM_FFI_THROW(ValueError) << "the vectors have " << a.size() << " elements: at most "
                              << static_cast<std::size_t>(kGroupSize) * kMaxGroups << " fit one dispatch";
  }

  const vulkan::Device device(devices[device_index]);
  const VkDeviceSize bytes = a.size() * sizeof(float);
  vulkan::HostBuffer left(device, bytes), right(device, bytes), result(device, bytes);
  left.Write(a);
  right.Write(b);
  const bool add = op == VectorOp::kAdd;
  vulkan::Pipeline pipeline(device, add ? vector_add_spv : vector_mul_spv,
                            add ? sizeof(vector_add_spv) : sizeof(vector_mul_spv));
  const uint32_t count = static_cast<uint32_t>(a.size());
  pipeline.Run({&left, &right, &result}, count, (count + kGroupSize - 1) / kGroupSize);
  return result.Read(count);
}

}  // namespace mlc::sample
