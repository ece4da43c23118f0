#include "engine/inference.h"

#include <utility>

namespace mblm {

namespace {
thread_local bool inference = false;
}

InferenceScope::InferenceScope() : before_(std::exchange(inference, true)) {}
InferenceScope::~InferenceScope() { inference = before_; }

bool is_inference() { return inference; }

}  // namespace mblm
