/*!
 * \file register.cc
 * \brief Loading this library registers the functions `mlc_sample.*` with tvm-ffi.
 *
 * Vectors of floats cross the border as the bytes of their elements: the package depends on nothing that has arrays.
 */
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <cstring>
#include <string>
#include <vector>

#include "base.h"
#include "cuda/cuda_ops.h"
#include "sampler.h"
#include "text.h"
#include "gpu/vulkan_ops.h"

namespace mlc::sample {
namespace {

namespace ffi = tvm::ffi;

std::vector<float> Floats(const ffi::Bytes& bytes) {
  if (bytes.size() % sizeof(float) != 0) {
    TVM_FFI_THROW(ValueError) << bytes.size() << " bytes are no whole number of 32-bit floats";
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

ffi::Bytes AsBytes(const std::vector<float>& values) {
  return ffi::Bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

std::string_view View(const ffi::Bytes& bytes) { return {bytes.data(), bytes.size()}; }

ffi::Array<int64_t> EncodeToArray(const ffi::Bytes& text) {
  ffi::Array<int64_t> ids;
  for (uint32_t id : Encode(View(text))) ids.push_back(static_cast<int64_t>(id));
  return ids;
}

ffi::Bytes DecodeFromArray(const ffi::Array<int64_t>& array) {
  std::vector<uint32_t> ids;
  ids.reserve(array.size());
  for (int64_t id : array) {
    if (id < 0 || id > UINT32_MAX) TVM_FFI_THROW(ValueError) << id << " is no token id";
    ids.push_back(static_cast<uint32_t>(id));
  }
  return ffi::Bytes(Decode(ids));
}

ffi::Array<ffi::Map<ffi::String, ffi::Any>> DevicesAsMaps() {
  ffi::Array<ffi::Map<ffi::String, ffi::Any>> maps;
  for (const VulkanDeviceInfo& info : VulkanDevices()) {
    ffi::Map<ffi::String, ffi::Any> map;
    map.Set("name", ffi::String(info.name));
    map.Set("type", ffi::String(info.type));
    map.Set("api_version", ffi::String(info.api_version));
    map.Set("vendor_id", static_cast<int64_t>(info.vendor_id));
    map.Set("device_id", static_cast<int64_t>(info.device_id));
    maps.push_back(map);
  }
  return maps;
}

ffi::Array<ffi::Map<ffi::String, ffi::Any>> CudaDevicesAsMaps() {
  ffi::Array<ffi::Map<ffi::String, ffi::Any>> maps;
  for (const CudaDeviceInfo& info : CudaDevices()) {
    ffi::Map<ffi::String, ffi::Any> map;
    map.Set("name", ffi::String(info.name));
    map.Set("uuid", ffi::String(info.uuid));
    map.Set("compute", ffi::String(info.compute));
    maps.push_back(map);
  }
  return maps;
}

ffi::Bytes VectorOpOnBytes(VectorOp op, const ffi::Bytes& a, const ffi::Bytes& b, int64_t device) {
  return AsBytes(VulkanVectorOp(op, Floats(a), Floats(b), device));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("mlc_sample.library_version", []() { return ffi::String(LibraryVersion()); })
      .def("mlc_sample.checksum", [](const ffi::Bytes& data) { return static_cast<int64_t>(Checksum(View(data))); })
      .def("mlc_sample.encode", EncodeToArray)
      .def("mlc_sample.decode", DecodeFromArray)
      .def("mlc_sample.sample_top_p",
           [](const ffi::Bytes& logits, double temperature, double top_p, double uniform) {
             return SampleTopP(Floats(logits), temperature, top_p, uniform);
           })
      .def("mlc_sample.cuda_enabled", []() { return CudaEnabled(); })
      .def("mlc_sample.cuda_devices", CudaDevicesAsMaps)
      .def("mlc_sample.cuda_add",
           [](const ffi::Bytes& a, const ffi::Bytes& b, int64_t device) {
             return AsBytes(CudaAdd(Floats(a), Floats(b), device));
           })
      .def("mlc_sample.vulkan_enabled", []() { return VulkanEnabled(); })
      .def("mlc_sample.vulkan_devices", DevicesAsMaps)
      .def("mlc_sample.vulkan_add",
           [](const ffi::Bytes& a, const ffi::Bytes& b, int64_t device) {
             return VectorOpOnBytes(VectorOp::kAdd, a, b, device);
           })
      .def("mlc_sample.vulkan_mul", [](const ffi::Bytes& a, const ffi::Bytes& b, int64_t device) {
        return VectorOpOnBytes(VectorOp::kMul, a, b, device);
      });
}

}  // namespace mlc::sample
