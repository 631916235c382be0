/*!
 * \file vector_ops.h
 * \brief The operations on the CPU: what the compute shaders are compared with.
 */
#ifndef KERNELS_VECTOR_OPS_H_
#define KERNELS_VECTOR_OPS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace kernels {

/*! \brief out[i] = a[i] + b[i]; both ranges have the same length. */
inline std::vector<float> add(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> out(a.size());
  std::transform(a.begin(), a.end(), b.begin(), out.begin(), [](float x, float y) { return x + y; });
  return out;
}

/*! \brief The dot product, summed in double so that the order of the terms hardly matters. */
inline double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/*! \brief The softmax, shifted by the maximum so that large logits do not overflow. */
inline std::vector<float> softmax(const std::vector<float>& logits) {
  std::vector<float> out(logits.size());
  if (logits.empty()) return out;
  const float peak = *std::max_element(logits.begin(), logits.end());
  double total = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    out[i] = std::exp(logits[i] - peak);
    total += out[i];
  }
  for (float& value : out) value = static_cast<float>(value / total);
  return out;
}

/*! \brief The root-mean-square norm with a weight an element. */
inline std::vector<float> rms_norm(const std::vector<float>& x, const std::vector<float>& weight, float epsilon) {
  const double mean_square = x.empty() ? 0.0 : dot(x, x) / static_cast<double>(x.size());
  const double scale = 1.0 / std::sqrt(mean_square + epsilon);
  std::vector<float> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = static_cast<float>(x[i] * scale * weight[i]);
  return out;
}

}  // namespace kernels

#endif  // KERNELS_VECTOR_OPS_H_
