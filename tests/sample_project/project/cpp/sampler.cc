/*!
 * \file sampler.cc
 */
#include "sampler.h"

#include <kernels/vector_ops.h>
#include <tvm/ffi/error.h>

#include <algorithm>
#include <numeric>

namespace mlc::sample {

std::vector<float> Probabilities(const std::vector<float>& logits, double temperature) {
  if (!(temperature > 0.0)) {
    TVM_FFI_THROW(ValueError) << "temperature is " << temperature << ": it must be above 0";
  }
  std::vector<float> scaled(logits.size());
  std::transform(logits.begin(), logits.end(), scaled.begin(),
                 [&](float logit) { return static_cast<float>(logit / temperature); });
  return kernels::softmax(scaled);
}

int64_t SampleTopP(const std::vector<float>& logits, double temperature, double top_p, double uniform) {
  if (logits.empty()) TVM_FFI_THROW(ValueError) << "no logits: there is no token to choose";
  if (!(top_p > 0.0 && top_p <= 1.0)) TVM_FFI_THROW(ValueError) << "top_p is " << top_p << ": it must be in (0, 1]";
  if (!(uniform >= 0.0 && uniform < 1.0)) {
    TVM_FFI_THROW(ValueError) << "uniform is " << uniform << ": it must be in [0, 1)";
  }

  const std::vector<float> probabilities = Probabilities(logits, temperature);
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t left, int64_t right) { return probabilities[left] > probabilities[right]; });

  double mass = 0.0;
  std::size_t kept = 0;
  while (kept < order.size() && mass < top_p) mass += probabilities[order[kept++]];

  double remaining = uniform * mass;
  for (std::size_t rank = 0; rank < kept; ++rank) {
    remaining -= probabilities[order[rank]];
    if (remaining < 0.0) return order[rank];
  }
  return order[kept - 1];
}

}  // namespace mlc::sample
