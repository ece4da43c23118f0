#include "mblm/recomputed_block.h"

#include "ops/concat_rows.h"
#include "ops/sequence.h"

namespace mblm {

Tensor RecomputedBlock::forward(const Tensor& x, State* state, const ForwardContext& context) const {
  if (state == nullptr) return block_.forward(x, nullptr, context);
  const std::int64_t tokens = x.size(1);
  state->reserve(tokens);
  std::vector<Tensor> outputs;
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    const std::int64_t length = state->lengths[static_cast<std::size_t>(b)], end = length + tokens;
    const Tensor& inputs = state->lists.front()[static_cast<std::size_t>(b)];
    Tensor next = inputs.slice(length, end);
    copy_into(next, x.slice(b, b + 1).reshape(next.shape()));
    outputs.push_back(slice_sequence(block_.forward(inputs.slice(0, end).reshape(Shape{1, end, width_}), nullptr, context), length, end));
  }
  state->advance(tokens);
  return concat_rows(outputs);
}

std::unique_ptr<State> RecomputedBlock::start(std::int64_t batch) const {
  auto state = std::make_unique<State>(batch);
  state->add_list(width_, dtype_, device_);
  return state;
}

}  // namespace mblm
