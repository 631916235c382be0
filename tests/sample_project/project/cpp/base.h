/*!
 * \file base.h
 * \brief What the library exports.
 */
#ifndef MLC_SAMPLE_BASE_H_
#define MLC_SAMPLE_BASE_H_

#if defined(_WIN32)
#ifdef MLC_SAMPLE_EXPORTS
#define MLC_SAMPLE_DLL __declspec(dllexport)
#else
#define MLC_SAMPLE_DLL __declspec(dllimport)
#endif
#else
#define MLC_SAMPLE_DLL __attribute__((visibility("default")))
#endif

namespace mlc::sample {

/*! \brief The version this library was built as: that of the wheel it comes in. */
MLC_SAMPLE_DLL const char* LibraryVersion();

}  // namespace mlc::sample

/*! \brief The same for callers without C++, such as ctypes. */
extern "C" MLC_SAMPLE_DLL const char* mlc_sample_version();

#endif  // MLC_SAMPLE_BASE_H_
