/*!
 * \file text.cc
 * \brief The bridge to the Rust library.
 */
#include "text.h"

#include <cstddef>

extern "C" {
uint32_t mlc_sample_rust_crc32(const uint8_t* data, size_t len);
size_t mlc_sample_rust_encode(const uint8_t* text, size_t len, uint32_t* out, size_t capacity);
size_t mlc_sample_rust_decode(const uint32_t* ids, size_t len, uint8_t* out, size_t capacity);
}

namespace mlc::sample {
namespace {

const uint8_t* Bytes(std::string_view data) { return reinterpret_cast<const uint8_t*>(data.data()); }

}  // namespace

uint32_t Checksum(std::string_view data) { return mlc_sample_rust_crc32(Bytes(data), data.size()); }

std::vector<uint32_t> Encode(std::string_view text) {
  // A text never has more tokens than bytes.
  std::vector<uint32_t> ids(text.size());
  ids.resize(mlc_sample_rust_encode(Bytes(text), text.size(), ids.data(), ids.size()));
  return ids;
}

std::string Decode(const std::vector<uint32_t>& ids) {
  std::string text(mlc_sample_rust_decode(ids.data(), ids.size(), nullptr, 0), '\0');
  mlc_sample_rust_decode(ids.data(), ids.size(), reinterpret_cast<uint8_t*>(text.data()), text.size());
  return text;
}

}  // namespace mlc::sample
