#include "mblm/scorer.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "engine/inference.h"
#include "mblm/sample.h"
#include "ops/concat_rows.h"
#include "ops/sequence.h"

namespace mblm {
namespace {

// Tokens of stage 0 in a chunk: about 4096 bytes, which bounds the memory of the local stage.
std::int64_t chunk_tokens(const ModelConfig& config) { return std::clamp<std::int64_t>(4096 / config.patch_bytes(0), 1, 512); }

}  // namespace

Scorer::Scorer(const Model& model) : stages_(model), chunk_tokens_(chunk_tokens(model.config())) { restart(); }

void Scorer::restart() {
  state_ = stages_.fresh(0, 1);
  last_ids_ = predictor_ = Tensor();
  length_ = 0;
  ended_ = false;
}

std::int64_t Scorer::most_bytes() const {
  return stages_.config().fixed_context() ? stages_.config().context() : std::numeric_limits<std::int64_t>::max();
}

// The outputs of the local stage for `tokens` tokens of stage 0, ids (1, tokens * patch): (1, R, 1 + P, D) for its R patches, or for a
// model of one stage (1, 1, 1 + tokens, D): only row 0 of the first patch is of use, in the first chunk.
Tensor Scorer::local_outputs(const Tensor& ids, std::int64_t tokens) {
  const ModelConfig& config = stages_.config();
  const std::int64_t patch = config.patch_bytes(0);
  const int last = stages_.last();
  // Stage 0 processes a token when the outputs for the next one are needed.
  const Tensor processed = slice_sequence(ids, 0, (tokens - 1) * patch), last_ids = slice_sequence(ids, (tokens - 1) * patch, tokens * patch);
  const Tensor parts[] = {last_ids_.defined() ? last_ids_.reshape(Shape{patch}) : empty(Shape{0}, DType::Int64, ids.device()),
                          processed.reshape(Shape{(tokens - 1) * patch})};
  const Tensor joined = concat_rows(parts);
  Tensor outputs = stages_.advance(0, joined.reshape(Shape{1, joined.numel()}), {}, state_);  // (1, tokens, D)
  last_ids_ = last_ids;
  std::int64_t patches = 1;
  for (int n = 1; n <= last; ++n) {
    const Tensor above = stages_.model().hierarchy().to_next(n - 1, outputs.reshape(Shape{outputs.size(0) * outputs.size(1), outputs.size(2)}));
    patches = above.size(0);
    const std::int64_t used = n == last ? above.size(1) : above.size(1) - 1;
    const Tensor own = ids.reshape(Shape{patches, ids.numel() / patches});
    State fresh = stages_.fresh(n, patches);
    outputs = stages_.advance(n, slice_sequence(own, 0, used * config.patch_bytes(n)), slice_sequence(above, 0, used), fresh);
  }
  return outputs.reshape(Shape{1, patches, outputs.size(1), outputs.size(2)});
}

Tensor Scorer::next(std::span<const std::int64_t> ids) {
  const ModelConfig& config = stages_.config();
  const std::int64_t count = std::ssize(ids), patch = config.patch_bytes(0), tokens = (count + patch - 1) / patch;
  require<ValueError>(!ended_ && count <= chunk_bytes(), "score: expected chunks of ", chunk_bytes(), " ids with a shorter one at the end only, got ", count,
                      ended_ ? " after the end" : "");
  require<ValueError>(count <= most_bytes() - length_, "score: expected at most ", most_bytes(), " ids, the fixed context, got ", length_ + count);
  for (const std::int64_t id : ids)
    require<ValueError>(id >= 0 && id < config.num_tokens, "score: expected ids in [0, ", config.num_tokens, "), got ", id);
  ended_ = count < chunk_bytes();
  if (count == 0) return empty(Shape{0, config.num_tokens}, stages_.model().parameters().values().dtype());

  const InferenceScope inference;
  std::vector<std::int64_t> padded(ids.begin(), ids.end());
  padded.resize(static_cast<std::size_t>(tokens * patch), config.pad_token_id);
  const Tensor all = from_values<std::int64_t>(Shape{1, tokens * patch}, padded, stages_.device());
  const std::int64_t width = config.hidden_dims.back();
  Tensor predictors;
  if (stages_.last() == 0) {
    // The outputs of stage 0, which lag by one token, predict the bytes.
    predictors = local_outputs(all, tokens).reshape(Shape{tokens, width});
  } else {
    const Tensor local = local_outputs(all, tokens);
    const Tensor rows = flatten_patches(local, 0, count + 1).reshape(Shape{count + 1, width});
    const Tensor parts[] = {predictor_.defined() ? predictor_ : rows.slice(0, 1), rows.slice(1, count)};
    predictors = concat_rows(parts);
    predictor_ = rows.slice(count, count + 1);
  }
  length_ += count;
  return to_device(stages_.model().to_logits(predictors), Device{});
}

void score(Scorer& scorer, std::span<const std::int64_t> ids,
           const std::function<void(std::int64_t offset, std::int64_t id, double log_probability)>& on_byte) {
  for (std::int64_t begin = 0, count = 0; begin < std::ssize(ids); begin += count) {
    if (scorer.length() == scorer.most_bytes()) scorer.restart();
    count = std::min({scorer.chunk_bytes(), std::ssize(ids) - begin, scorer.most_bytes() - scorer.length()});
    const std::span<const std::int64_t> chunk = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    const Tensor logits = scorer.next(chunk);
    const std::vector<float> values = logits.to_vector_as<float>();
    const std::size_t width = values.size() / chunk.size();
    for (std::size_t i = 0; i < chunk.size(); ++i)
      on_byte(begin + static_cast<std::int64_t>(i), chunk[i], log_probability(std::span(values).subspan(i * width, width), chunk[i]));
  }
}

}  // namespace mblm
