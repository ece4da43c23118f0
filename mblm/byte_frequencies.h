// The rounding of a model's probabilities to integers, for compressed files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mblm/range_coder.h"

namespace mblm {

// Frequencies of the bytes from the logits (V) of the next id:
//   f_i = 1 + floor((2^31 - 2) 2^((l_i - l_max) log2 e))   for the ids i < min(V, 256), with l_max the largest of their logits.
// The power is computed in float64 with a polynomial of degree 12, by additions and products of this library alone. Ids above 255 have no
// frequency. The `1 +` costs at most 2e-7 bits per byte.
class ByteFrequencies {
 public:
  // Valid until the next call. Throws ValueError for a logit that is NaN or infinite, except -infinity, which is probability 0.
  Frequencies of(std::span<const float> logits);

 private:
  std::vector<std::uint32_t> frequencies_;
};

}  // namespace mblm
