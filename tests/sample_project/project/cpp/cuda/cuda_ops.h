/*!
 * \file cuda_ops.h
 * \brief Vector operations on a CUDA device.
 *
 * Without USE_CUDA every call but CudaEnabled throws CudaUnavailable.
 */
#ifndef MLC_SAMPLE_CUDA_CUDA_OPS_H_
#define MLC_SAMPLE_CUDA_CUDA_OPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base.h"

namespace mlc::sample {

struct CudaDeviceInfo {
  std::string name;
  std::string uuid;
  std::string compute;
};

/*! \brief Whether the library was built with USE_CUDA ON. */
MLC_SAMPLE_DLL bool CudaEnabled();

/*! \brief The devices that this process sees; throws CudaUnavailable where CUDA has none. */
MLC_SAMPLE_DLL std::vector<CudaDeviceInfo> CudaDevices();

/*! \brief The sum of two vectors of one length, on the device of that index; throws CudaUnavailable. */
MLC_SAMPLE_DLL std::vector<float> CudaAdd(const std::vector<float>& a, const std::vector<float>& b, int64_t device);

}  // namespace mlc::sample

#endif  // MLC_SAMPLE_CUDA_CUDA_OPS_H_
