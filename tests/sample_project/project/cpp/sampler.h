/*!
 * \file sampler.h
 * \brief Choosing the next token from logits, on the CPU.
 */
#ifndef MLC_SAMPLE_SAMPLER_H_
#define MLC_SAMPLE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "base.h"

namespace mlc::sample {

/*! \brief The probabilities of the logits at a temperature above 0. */
MLC_SAMPLE_DLL std::vector<float> Probabilities(const std::vector<float>& logits, double temperature);

/*!
 * \brief The token that `uniform` in [0, 1) selects among the most likely ones that together reach `top_p`.
 * Equally likely tokens are ordered by their id, so the answer depends on nothing but the arguments.
 */
MLC_SAMPLE_DLL int64_t SampleTopP(const std::vector<float>& logits, double temperature, double top_p, double uniform);

}  // namespace mlc::sample

#endif  // MLC_SAMPLE_SAMPLER_H_
