/*!
 * \file vector_ops.cu
 * \brief One kernel, and the host's side of it.
 */
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <stdexcept>

#include "kernels/cuda_ops.h"

namespace kernels {
namespace {

constexpr int kBlock = 256;

__global__ void Add(const float* a, const float* b, float* out, std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    out[i] = a[i] + b[i];
  }
}

void Check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // a failed call is told once
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(result));
}

/*! \brief Memory of the device that is current. */
class DeviceFloats {
 public:
  explicit DeviceFloats(std::size_t count) { Check(cudaMalloc(&data_, count * sizeof(float)), "cudaMalloc"); }
  DeviceFloats(const DeviceFloats&) = delete;
  DeviceFloats& operator=(const DeviceFloats&) = delete;
  ~DeviceFloats() { cudaFree(data_); }

  float* get() const { return data_; }

 private:
  float* data_ = nullptr;
};

std::string Uuid(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
  }
  return text;
}

}  // namespace

std::vector<CudaDevice> CudaDevices() {
  int count = 0;
  Check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  std::vector<CudaDevice> devices;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp found;
    Check(cudaGetDeviceProperties(&found, index), "cudaGetDeviceProperties");
    devices.push_back(
        {found.name, Uuid(found.uuid), std::to_string(found.major) + "." + std::to_string(found.minor)});
  }
  return devices;
}

std::vector<float> CudaAdd(const std::vector<float>& a, const std::vector<float>& b, int device) {
  Check(cudaSetDevice(device), "cudaSetDevice");
  std::vector<float> out(a.size());
  if (a.empty()) return out;
  const std::size_t bytes = a.size() * sizeof(float);
  const DeviceFloats left(a.size()), right(a.size()), result(a.size());
  Check(cudaMemcpy(left.get(), a.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  Check(cudaMemcpy(right.get(), b.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  const int blocks = static_cast<int>((a.size() + kBlock - 1) / kBlock < 4096 ? (a.size() + kBlock - 1) / kBlock : 4096);
  Add<<<blocks, kBlock>>>(left.get(), right.get(), result.get(), a.size());
  Check(cudaGetLastError(), "the kernel");
  Check(cudaMemcpy(out.data(), result.get(), bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  return out;
}

}  // namespace kernels
