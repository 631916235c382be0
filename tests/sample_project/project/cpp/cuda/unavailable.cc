/*!
 * \file unavailable.cc
 * \brief Stands in for the other files of this folder when USE_CUDA is OFF.
 */
#include <tvm/ffi/error.h>

#include "cuda/cuda_ops.h"

namespace mlc::sample {
namespace {

[[noreturn]] void Unavailable() {
  TVM_FFI_THROW(CudaUnavailable) << "this library was built without CUDA: put set(USE_CUDA ON) into config.cmake"
                                 << " and build it again";
  throw;  // never reached: tells the compiler so
}

}  // namespace

bool CudaEnabled() { return false; }

std::vector<CudaDeviceInfo> CudaDevices() { Unavailable(); }

std::vector<float> CudaAdd(const std::vector<float>&, const std::vector<float>&, int64_t) { Unavailable(); }

}  // namespace mlc::sample
