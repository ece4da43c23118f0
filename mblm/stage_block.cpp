#include "mblm/stage_block.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "ops/concat_rows.h"
#include "ops/dropout.h"
#include "ops/linear.h"

namespace mblm {

Tensor dropout(const Tensor& x, double p, std::uint32_t site, const ForwardContext& context) {
  if (!context.training) return x;
  const std::int64_t first = context.first_sequence * x.shape().without_first().numel();
  return dropout(x, p, context.random(site), static_cast<std::uint64_t>(first));
}

namespace {

// Tensors (B_k, ...) along the first axis: a view where they follow each other in one storage, as the parts of a split do.
Tensor joined_rows(const std::vector<State>& states, std::size_t index) {
  std::vector<Tensor> rows;
  for (const State& state : states) rows.push_back(state.tensors[index]);
  const Tensor view = adjacent_rows(rows);
  return view.defined() ? view : concat_rows(rows);
}

}  // namespace

void State::add_list(std::int64_t width, DType dtype, Device device) {
  std::vector<Tensor>& list = lists.emplace_back();
  for (std::int64_t b = 0; b < batch(); ++b) list.push_back(empty(Shape{0, width}, dtype, device));
}

Tensor State::positions(Device device) const { return from_values<std::int64_t>(Shape{batch()}, lengths, device); }

void State::reserve(std::int64_t tokens) {
  constexpr std::int64_t smallest = 16;
  for (std::vector<Tensor>& list : lists) {
    for (std::size_t b = 0; b < list.size(); ++b) {
      const std::int64_t used = lengths[b], capacity = list[b].size(0);
      if (used + tokens <= capacity) continue;
      Tensor larger = empty(list[b].shape().with(0, std::max({smallest, 2 * capacity, used + tokens})), list[b].dtype(), list[b].device());
      Tensor rows = larger.slice(0, used);
      copy_into(rows, list[b].slice(0, used));
      list[b] = larger;
    }
  }
}

void State::advance(std::int64_t tokens) {
  for (std::int64_t& length : lengths) length += tokens;
}

State State::copy() const {
  State other = *this;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      const Tensor& from = lists[i][b];
      Tensor& to = other.lists[i][b] = empty_like(from);
      Tensor rows = to.slice(0, lengths[b]);
      copy_into(rows, from.slice(0, lengths[b]));
    }
  }
  return other;
}

State State::joined(std::vector<State> states) {
  require<ValueError>(!states.empty(), "state: expected at least one state to join, got none");
  if (states.size() == 1) return std::move(states.front());
  State all;
  all.lists.resize(states.front().lists.size());
  for (std::size_t i = 0; i < states.front().tensors.size(); ++i) all.tensors.push_back(joined_rows(states, i));
  for (State& state : states) {
    for (std::size_t i = 0; i < all.lists.size(); ++i) std::move(state.lists[i].begin(), state.lists[i].end(), std::back_inserter(all.lists[i]));
    all.lengths.insert(all.lengths.end(), state.lengths.begin(), state.lengths.end());
  }
  return all;
}

std::vector<State> State::split(State state) {
  std::vector<State> rows;
  if (state.batch() == 1) {
    rows.push_back(std::move(state));
    return rows;
  }
  for (std::size_t b = 0; b < state.lengths.size(); ++b) {
    State& row = rows.emplace_back();
    const auto at = static_cast<std::int64_t>(b);
    for (const Tensor& all : state.tensors) row.tensors.push_back(all.slice(at, at + 1));
    for (const std::vector<Tensor>& list : state.lists) row.lists.push_back({list[b]});
    row.lengths = {state.lengths[b]};
  }
  return rows;
}

std::unique_ptr<State> StageBlock::start(std::int64_t) const { return nullptr; }

Parameter& Scope::add_merged(std::vector<ParameterPart> parts) const {
  for (ParameterPart& part : parts) part.name = full(part.name);
  return store_->add_merged(std::move(parts));
}

Tensor LinearParameters::operator()(const Tensor& x, std::optional<DType> y_dtype) const {
  return linear(x, weight->factor(), bias == nullptr ? Tensor{} : bias->tensor(), y_dtype);
}

LinearParameters add_linear(const Scope& scope, const std::string& name, std::int64_t in, std::int64_t out, bool bias) {
  const Init init = Init::uniform(1.0f / std::sqrt(static_cast<float>(in)));
  LinearParameters linear;
  linear.weight = &scope.add(name + ".weight", Shape{out, in}, init);
  if (bias) linear.bias = &scope.add(name + ".bias", Shape{out}, init);
  return linear;
}

}  // namespace mblm
