/*!
 * \file version.cc
 * \brief The only file that is compiled again when nothing but the version changed.
 */
#include "base.h"

namespace mlc::sample {

const char* LibraryVersion() { return MLC_SAMPLE_VERSION; }

}  // namespace mlc::sample

const char* mlc_sample_version() { return mlc::sample::LibraryVersion(); }
