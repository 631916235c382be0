/*!
 * \file cuda_ops.cc
 * \brief The public functions of cuda_ops.h on top of the kernels.
 */
#include "cuda/cuda_ops.h"

#include <tvm/ffi/error.h>

#include <stdexcept>

#include "kernels/cuda_ops.h"

namespace mlc::sample {
namespace {

std::vector<kernels::CudaDevice> Found() {
  try {
    return kernels::CudaDevices();
  } catch (const std::runtime_error& error) {
    TVM_FFI_THROW(CudaUnavailable) << error.what();
    throw;  // never reached: tells the compiler so
  }
}

}  // namespace

bool CudaEnabled() { return true; }

std::vector<CudaDeviceInfo> CudaDevices() {
  std::vector<CudaDeviceInfo> infos;
  for (const kernels::CudaDevice& device : Found()) infos.push_back({device.name, device.uuid, device.compute});
  return infos;
}

std::vector<float> CudaAdd(const std::vector<float>& a, const std::vector<float>& b, int64_t device) {
  if (a.size() != b.size()) {
    TVM_FFI_THROW(ValueError) << "the vectors have " << a.size() << " and " << b.size() << " elements";
  }
  const int64_t count = static_cast<int64_t>(Found().size());
  if (device < 0 || device >= count) {
    TVM_FFI_THROW(ValueError) << "there is no CUDA device " << device << ": the devices are 0 to " << count - 1;
  }
  try {
    return kernels::CudaAdd(a, b, static_cast<int>(device));
  } catch (const std::runtime_error& error) {
    TVM_FFI_THROW(CudaUnavailable) << error.what();
    throw;  // never reached: tells the compiler so
  }
}

}  // namespace mlc::sample
