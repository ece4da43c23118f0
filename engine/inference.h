// The mode of inference: every result for a sequence has the same bits, whatever else is computed with it.
#pragma once

#include "engine/autograd.h"

namespace mblm {

// On this thread and during its lifetime nothing is recorded, and ops use kernels whose order of operations for a row depends on the
// shape of the weights alone. The bits of a row then do not depend on the number of rows, on how the tokens of a sequence are split
// into calls, or on the number of threads. Outside of the scope ops use the kernels of training, which are faster for many rows.
class InferenceScope {
 public:
  InferenceScope();
  ~InferenceScope();
  InferenceScope(const InferenceScope&) = delete;
  InferenceScope& operator=(const InferenceScope&) = delete;

 private:
  NoGradScope no_grad_;
  bool before_;
};

bool is_inference();  // on this thread

}  // namespace mblm
