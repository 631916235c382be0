/*!
 * \file text.h
 * \brief Tokens and checksums, computed by the Rust library.
 */
#ifndef MLC_SAMPLE_TEXT_H_
#define MLC_SAMPLE_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base.h"

namespace mlc::sample {

/*! \brief The CRC-32 of the bytes. */
MLC_SAMPLE_DLL uint32_t Checksum(std::string_view data);

/*! \brief The token ids of the text; ids below 256 are bytes. */
MLC_SAMPLE_DLL std::vector<uint32_t> Encode(std::string_view text);

/*! \brief The bytes of the token ids; unknown ids stand for nothing. */
MLC_SAMPLE_DLL std::string Decode(const std::vector<uint32_t>& ids);

}  // namespace mlc::sample

#endif  // MLC_SAMPLE_TEXT_H_
