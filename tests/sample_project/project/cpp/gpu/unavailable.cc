/*!
 * \file unavailable.cc
 * \brief Stands in for the other files of this folder when USE_VULKAN is OFF.
 */
#include <tvm/ffi/error.h>

#include "gpu/vulkan_ops.h"

namespace mlc::sample {
namespace {

[[noreturn]] void Unavailable() {
  TVM_FFI_THROW(VulkanUnavailable) << "this library was built without Vulkan: put set(USE_VULKAN ON) into config.cmake"
                                   << " and build it again";
  throw;  // never reached: tells the compiler so
}

}  // namespace

bool VulkanEnabled() { return false; }

std::vector<VulkanDeviceInfo> VulkanDevices() { Unavailable(); }

std::vector<float> VulkanVectorOp(VectorOp, const std::vector<float>&, const std::vector<float>&, int64_t) {
  Unavailable();
}

}  // namespace mlc::sample
