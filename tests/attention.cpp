#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "ops/dropout.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Key masks: Thirds hides every third key; EmptyRows also hides all keys of sequence 1, or, if causal, all but the last one; Start hides the
// first 100 keys, so that the first tiles of a causal attention have no visible key.
enum class Mask { None, Thirds, EmptyRows, Start };

std::uint8_t visible(Mask mask, bool causal, std::int64_t b, std::int64_t j, std::int64_t tokens) {
  if (mask == Mask::Start) return j >= 100;
  if (mask == Mask::EmptyRows && b == 1) return causal && j == tokens - 1;
  return mask == Mask::None || j % 3 != 1;
}

struct Case {
  std::int64_t batch, tokens, heads, width;
  bool causal = true;
  Mask mask = Mask::None;
  float dropout = 0;
};

constexpr RandomKey dropout_key{5, 7, 11};

AttentionOptions options_of(const Case& c, Device device) {
  AttentionOptions options{.heads = c.heads, .causal = c.causal, .key_mask = {}, .dropout = c.dropout, .random = {dropout_key.seed, dropout_key.site, make_step_scalars(device, {.micro_step = static_cast<double>(dropout_key.step)})}, .first_sequence = 3};
  if (c.mask == Mask::None) return options;
  std::vector<std::uint8_t> mask;
  for (std::int64_t i = 0; i < c.batch * c.tokens; ++i) mask.push_back(visible(c.mask, c.causal, i / c.tokens, i % c.tokens, c.tokens));
  options.key_mask = from_values<std::uint8_t>(Shape{c.batch, c.tokens}, mask, device);
  return options;
}

// The weights of query i for all keys, before the dropout.
std::vector<double> weights_of(const Case& c, const HostArray& qkv, std::int64_t b, std::int64_t h, std::int64_t i) {
  const std::int64_t row = 3 * c.heads * c.width;
  std::vector<double> weights(static_cast<std::size_t>(c.tokens), 0.0);
  double largest = -HUGE_VAL, sum = 0;
  std::vector<double> scores(weights.size(), -HUGE_VAL);
  for (std::int64_t j = 0; j < c.tokens; ++j) {
    if ((c.causal && j > i) || visible(c.mask, c.causal, b, j, c.tokens) == 0) continue;
    double score = 0;
    for (std::int64_t e = 0; e < c.width; ++e)
      score += qkv.v[static_cast<std::size_t>((b * c.tokens + i) * row + h * c.width + e)] *
               qkv.v[static_cast<std::size_t>((b * c.tokens + j) * row + (c.heads + h) * c.width + e)];
    scores[static_cast<std::size_t>(j)] = score / std::sqrt(static_cast<double>(c.width));
    largest = std::max(largest, scores[static_cast<std::size_t>(j)]);
  }
  if (std::isinf(largest)) return std::vector<double>(weights.size(), 1.0 / static_cast<double>(c.tokens));
  for (const double s : scores) sum += std::exp(s - largest);
  for (std::size_t j = 0; j < weights.size(); ++j) weights[j] = std::exp(scores[j] - largest) / sum;
  return weights;
}

HostArray oracle(const Case& c, const HostArray& qkv) {
  const std::int64_t row = 3 * c.heads * c.width;
  HostArray y(Shape{c.batch, c.tokens, c.heads * c.width});
  const AttentionOptions options = options_of(c, {});
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.heads; ++h)
      for (std::int64_t i = 0; i < c.tokens; ++i) {
        const std::vector<double> weights = weights_of(c, qkv, b, h, i);
        for (std::int64_t j = 0; j < c.tokens; ++j) {
          const std::int64_t element = (((options.first_sequence + b) * c.heads + h) * c.tokens + i) * c.tokens + j;
          const bool keeps = dropout_keeps(dropout_key, static_cast<std::uint64_t>(element), dropout_threshold(c.dropout));
          const double weight = keeps ? weights[static_cast<std::size_t>(j)] / (1 - static_cast<double>(c.dropout)) : 0.0;
          for (std::int64_t e = 0; e < c.width; ++e)
            y.v[static_cast<std::size_t>((b * c.tokens + i) * c.heads * c.width + h * c.width + e)] +=
                weight * qkv.v[static_cast<std::size_t>((b * c.tokens + j) * row + (2 * c.heads + h) * c.width + e)];
        }
      }
  return y;
}

std::string name_of(const Case& c) {
  const char* masks[] = {"", " mask", " mask with empty rows", " mask without the start"};
  return concat_text("B=", c.batch, " T=", c.tokens, " H=", c.heads, " d=", c.width, c.causal ? " causal" : "", masks[static_cast<int>(c.mask)],
                     c.dropout > 0 ? " dropout" : "");
}

OpCase make(const Case& shape) {
  OpCase c;
  c.name = name_of(shape);
  c.inputs = {{.shape = Shape{shape.batch, shape.tokens, 3 * shape.heads * shape.width}}};
  c.run = [shape](std::span<const Tensor> in) -> std::vector<Tensor> { return {attention(in[0], options_of(shape, in[0].device()))}; };
  c.oracle = [shape](std::span<const HostArray> in) -> std::vector<HostArray> { return {oracle(shape, in[0])}; };
  const double scores =
      static_cast<double>(shape.batch * shape.heads * shape.tokens) * static_cast<double>(shape.causal ? shape.tokens + 1 : 2 * shape.tokens) / 2;
  c.flops = 4 * scores * static_cast<double>(shape.width);
  return c;
}

// Computes all sequences in parts of the given lengths; each part attends to the earlier parts through a cache. During the parts,
// sequence b is `late * b` tokens behind sequence 0. Separate runs compute the tokens of a sequence before and after the parts.
OpCase make_cached(const Case& shape, const std::vector<std::int64_t>& parts, std::int64_t late = 0) {
  OpCase c = make(shape);
  c.name = concat_text("cached, ", parts.size(), " parts, ", late, " late, ", c.name);
  c.run = [shape, parts, late](std::span<const Tensor> in) -> std::vector<Tensor> {
    const NoGradScope no_grad;
    const std::int64_t batch = shape.batch, width = shape.heads * shape.width;
    const Device device = in[0].device();
    const AttentionOptions options = options_of(shape, device);
    Tensor y = empty(in[0].shape().with(-1, width), in[0].dtype(), device);
    std::vector<Tensor> k, v;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::vector<Tensor>* rows : {&k, &v}) rows->push_back(zeros(Shape{shape.tokens + b, width}, in[0].dtype(), device));
    }
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), 0);
    // Computes the next `count` tokens of sequences [first, last), starting at lengths[b].
    const auto advance = [&](std::int64_t first, std::int64_t last, std::int64_t count) {
      if (count == 0 || first == last) return;
      Tensor x = empty(Shape{last - first, count, 3 * width}, in[0].dtype(), device);
      const auto rows = [](const Tensor& all, std::int64_t b, std::int64_t begin, std::int64_t end) {
        return all.slice(b, b + 1).reshape(all.shape().without_first()).slice(begin, end);
      };
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t begin = lengths[static_cast<std::size_t>(b)];
        Tensor to = rows(x, b - first, 0, count);
        copy_into(to, rows(in[0], b, begin, begin + count));
      }
      const std::vector<std::int64_t> own(lengths.begin() + first, lengths.begin() + last);
      const auto of = [&](std::vector<Tensor>& rows) { return std::span(rows).subspan(static_cast<std::size_t>(first), own.size()); };
      const KvCache cache{of(k), of(v), own};
      const Tensor part = attention_cached(x, options, cache);
      for (std::int64_t b = first; b < last; ++b) {
        std::int64_t& length = lengths[static_cast<std::size_t>(b)];
        Tensor to = rows(y, b, length, length + count);
        copy_into(to, rows(part, b - first, 0, count));
        length += count;
      }
    };
    for (std::int64_t b = 0; b < batch; ++b) advance(b, b + 1, late * (batch - 1 - b));
    for (const std::int64_t part : parts) advance(0, batch, part);
    for (std::int64_t b = 0; b < batch; ++b) advance(b, b + 1, late * b);
    return {y};
  };
  c.gradient = false;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const bool causal : {true, false}) {
    for (const std::int64_t tokens : {1, 2, 8, 9, 16, 17, 33, 48, 49, 63, 65, 130, 200}) all.push_back(make({2, tokens, 2, 4, causal}));
    for (const std::int64_t tokens : {9, 40, 130}) {
      for (const Mask mask : {Mask::Thirds, Mask::EmptyRows})
        for (const float dropout : {0.0f, 0.3f}) all.push_back(make({2, tokens, 2, 5, causal, mask, dropout}));
      all.push_back(make({2, tokens, 2, 5, causal, Mask::None, 0.3f}));
      all.push_back(make({2, tokens, 1, 64, causal, Mask::EmptyRows, 0.3f}));
      all.push_back(make({1, tokens, 1, 128, causal, Mask::Thirds}));
      all.push_back(make({1, tokens, 1, 136, causal, Mask::Thirds, 0.3f}));
    }
    for (const std::int64_t tokens : {9, 130}) {
      for (const std::int64_t width : {1, 7, 16, 33, 64, 80}) all.push_back(make({1, tokens, 3, width, causal}));
    }
    for (const std::int64_t tokens : {24, 64, 100}) all.push_back(make({1, tokens, 2, 64, causal}));
    // Several tiles of 64 queries and of 128 keys, the last ones partly filled.
    for (const Case& c : {Case{2, 200, 1, 5, causal, Mask::EmptyRows, 0.3f}, Case{1, 300, 2, 8, causal, Mask::Start}, Case{1, 300, 1, 5, causal, Mask::Start, 0.3f},
                          Case{1, 390, 1, 5, causal, Mask::None, 0.3f}}) {
      all.push_back(make(c));
      all.back().differences = false;
      all.back().large = c.tokens > 200;
    }
    all.push_back(make({0, 9, 2, 4, causal}));
    all.push_back(make({2, 0, 2, 4, causal}));
    OpCase steep = make({1, 70, 1, 4, causal});  // scores up to thousands: one key has nearly all the weight
    steep.name += " steep";
    steep.inputs[0].scale = 32;
    steep.float32_bound = 1e-5;  // the rounding error of a score is an error of its weight
    steep.gradient = false;
    all.push_back(steep);
  }
  all.push_back(make_cached({2, 9, 2, 4}, {1, 1, 1, 1, 1, 1, 1, 1, 1}));
  all.push_back(make_cached({2, 150, 2, 20}, {60, 3, 1, 1, 1, 64, 20}));
  all.push_back(make_cached({3, 70, 2, 8}, {1, 1, 20, 1, 1, 6}, 20));  // rows above and below the limit of the short kernel
  all.push_back(make_cached({2, 140, 1, 16}, {70, 1}, 69));
  all.push_back(make_cached({2, 300, 2, 64}, {250, 1, 9, 30}, 10));
  all.push_back(make_cached({2, 20, 1, 264}, {12, 1, 7}));
  for (const Case& shape : {Case{512, 9, 4, 64}, Case{4, 513, 4, 64}}) {
    OpCase measured = make(shape);
    measured.benchmark = true;
    measured.oracle = nullptr;
    all.push_back(measured);
  }
  return all;
}

const bool added = add_cases("attention", cases);

}  // namespace
}  // namespace mblm::testing
