/*!
 * \file vulkan_ops.h
 * \brief Vector operations on a Vulkan device.
 *
 * Without USE_VULKAN every call but VulkanEnabled throws VulkanUnavailable.
 */
#ifndef MLC_SAMPLE_GPU_VULKAN_OPS_H_
#define MLC_SAMPLE_GPU_VULKAN_OPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base.h"

namespace mlc::sample {

struct VulkanDeviceInfo {
  std::string name;
  /*! \brief discrete, integrated, virtual, cpu or other. */
  std::string type;
  /*! \brief The Vulkan version of the device, such as 1.3.239. */
  std::string api_version;
  uint32_t vendor_id;
  uint32_t device_id;
};

enum class VectorOp { kAdd, kMul };

/*! \brief Whether the library was built with USE_VULKAN ON. */
MLC_SAMPLE_DLL bool VulkanEnabled();

/*! \brief The devices that can compute, in the loader's order; empty where no driver is installed. */
MLC_SAMPLE_DLL std::vector<VulkanDeviceInfo> VulkanDevices();

/*! \brief The operation on two vectors of one length, on the device of that index; throws VulkanUnavailable. */
MLC_SAMPLE_DLL std::vector<float> VulkanVectorOp(VectorOp op, const std::vector<float>& a, const std::vector<float>& b,
                                                 int64_t device);

}  // namespace mlc::sample

#endif  // MLC_SAMPLE_GPU_VULKAN_OPS_H_
