/*!
 * \file cuda_ops.h
 * \brief The operations on a CUDA device. Compiled by nvcc; who calls them needs no header of CUDA.
 */
#ifndef KERNELS_CUDA_OPS_H_
#define KERNELS_CUDA_OPS_H_

#include <string>
#include <vector>

namespace kernels {

struct CudaDevice {
  std::string name;
  /*! \brief GPU- and the board's uuid, as NVML and CUDA_VISIBLE_DEVICES have it. */
  std::string uuid;
  /*! \brief The compute capability, such as 9.0. */
  std::string compute;
};

/*! \brief The devices that this process sees. Throws std::runtime_error with CUDA's words, also where there is none. */
std::vector<CudaDevice> CudaDevices();

/*! \brief out[i] = a[i] + b[i], computed by the device of that index; both have the same length. Throws
 * std::runtime_error with CUDA's words. */
std::vector<float> CudaAdd(const std::vector<float>& a, const std::vector<float>& b, int device);

}  // namespace kernels

#endif  // KERNELS_CUDA_OPS_H_
