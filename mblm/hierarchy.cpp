#include "mblm/hierarchy.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "engine/autograd.h"
#include "ops/cast.h"
#include "ops/concat_rows.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/rotary.h"
#include "ops/sequence.h"
#include "ops/split_rows.h"

namespace mblm {
namespace {

std::string numbered(const char* name, int n) { return std::string(name) + "." + std::to_string(n); }

// Dropout draws random numbers by the index of a sequence in the global batch. This converts the index of an input sequence to the
// index of a stage's sequence: the stage has `patches` sequences per input sequence, and `first` is the offset within the batch.
ForwardContext of_patches(ForwardContext context, std::int64_t patches, std::int64_t first) {
  context.first_sequence = context.first_sequence * patches + first;
  return context;
}

}  // namespace

Hierarchy::Hierarchy(const ModelConfig& config, ParameterStore& store) 
    : config_(config), start_tokens_(config.is_masked() ? 0 : 1), stages_(static_cast<std::size_t>(config.stages())) {
  const Scope root(store, "");
  const int last = config.stages() - 1;
  for (int n = last; n >= 0; --n) declare_embedding(root, n);
  for (int n = 0; n <= last; ++n) {
    Stage& stage = stages_[static_cast<std::size_t>(n)];
    const auto at = static_cast<std::size_t>(n);
    const std::int64_t width = config.hidden_dims[at];
    if (config.blocks[at]->pos_emb_type == PositionKind::Fixed)
      stage.positions = &root.add(numbered("pos_embs", n) + ".weight", Shape{config.seq_lens[at], width}, Init::normal());
    if (config.blocks[at]->pos_emb_type == PositionKind::Rope) stage.frequencies = &root.add_unnamed_constant(rotary_frequencies(width));
    if (start_tokens_ > 0) stage.start = &root.add(numbered("start_tokens", n), Shape{width}, Init::normal());
    stage.block = config.blocks[at]->build(root.child(numbered("stage_models", n)), width, config.num_layers[at]);
    if (n < last)
      stage.to_next = add_linear(root, numbered("to_next_stage_proj", n) + ".1", width, config.hidden_dims[at + 1] * config.seq_lens[at + 1]);
  }
}

void Hierarchy::declare_embedding(const Scope& root, int n) {
  const int last = config_.stages() - 1;
  const Scope scope = root.child(numbered("token_embs_rev", last - n));
  TokenEmbedding& embedding = stages_[static_cast<std::size_t>(n)].embedding;
  const std::int64_t byte_width = config_.hidden_dims.back(), width = config_.hidden_dims[static_cast<std::size_t>(n)];
  embedding.table = &scope.add("embedding.weight", Shape{config_.num_tokens, byte_width}, Init::normal().with_zero_row(config_.pad_token_id));
  if (n == last) return;
  const std::int64_t joined = config_.patch_bytes(n) * byte_width;
  embedding.norm_in_weight = &scope.add("_post.1.weight", Shape{joined}, Init::constant(1));
  embedding.norm_in_bias = &scope.add("_post.1.bias", Shape{joined}, Init::constant(0));
  embedding.projection = add_linear(scope, "_post.2", joined, width);
  embedding.norm_out_weight = &scope.add("_post.3.weight", Shape{width}, Init::constant(1));
  embedding.norm_out_bias = &scope.add("_post.3.bias", Shape{width}, Init::constant(0));
}

Tensor Hierarchy::embed(int n, const Tensor& ids) const {
  const Stage& stage = stages_[static_cast<std::size_t>(n)];
  const TokenEmbedding& embedding = stage.embedding;
  const std::int64_t rows = ids.size(0), patch = config_.patch_bytes(n), tokens = ids.size(1) / patch;
  Tensor x = mblm::embedding(ids, embedding.table->tensor(), config_.pad_token_id, embedding.table->activation_dtype());
  if (embedding.projection.weight != nullptr) {
    x = x.reshape(Shape{rows, tokens, patch * config_.hidden_dims.back()});
    x = layer_norm(x, embedding.norm_in_weight->tensor(), embedding.norm_in_bias->tensor());
    x = layer_norm(embedding.projection(x), embedding.norm_out_weight->tensor(), embedding.norm_out_bias->tensor());
  }
  return x;
}

Tensor Hierarchy::run_stage(int n, const Tensor& tokens, const ForwardContext& context) const {
  const StageBlock& block = *stages_[static_cast<std::size_t>(n)].block;
  const std::int64_t rows = tokens.size(0);
  const bool chunked = n > 0 && rows > 0 && context.training && config_.train_checkpoint_chunks.has_value() && is_recording();
  if (!chunked) return block.forward(tokens, nullptr, context);
  const std::int64_t chunks = (*config_.train_checkpoint_chunks)[static_cast<std::size_t>(n - 1)], size = (rows + chunks - 1) / chunks;
  std::vector<Tensor> parts;
  std::int64_t begin = 0;
  for (const Tensor& part : split_rows(tokens, size)) {
    const std::int64_t end = begin + part.size(0);
    ForwardContext here = of_patches(context, 1, begin);
    if (here.token_mask.defined()) here.token_mask = here.token_mask.slice(begin, end);
    begin = end;
    parts.push_back(checkpoint("checkpoint", std::span(&part, 1),
                               [&block, here](std::span<const Tensor> in) { return block.forward(in[0], nullptr, here); }));
  }
  return concat_rows(parts);
}

Tensor Hierarchy::forward(const Tensor& ids, std::span<const Tensor> token_masks, const ForwardContext& context) const {
  const std::int64_t batch = ids.size(0), length = batch == 0 ? 0 : ids.numel() / batch;
  return run_stages(
      batch, length,
      [&](int n, std::int64_t rows, std::int64_t tokens, std::int64_t used) {
        const std::int64_t patch = config_.patch_bytes(n);
        return embed(n, slice_sequence(ids.reshape(Shape{rows, tokens * patch}), 0, used * patch));
      },
      token_masks, context);
}

Tensor Hierarchy::forward_embeddings(std::span<const Tensor> embeddings, std::span<const Tensor> token_masks,
                                     const ForwardContext& context) const {
  const Tensor& local = embeddings.front();
  const std::int64_t batch = local.size(0), length = batch == 0 ? 0 : local.shape().rows() / batch;
  return run_stages(
      batch, length,
      [&](int n, std::int64_t rows, std::int64_t tokens, std::int64_t used) {
        const Tensor& given = embeddings[embeddings.size() - 1 - static_cast<std::size_t>(n)];
        const Tensor own = cast(given, stages_[static_cast<std::size_t>(n)].embedding.table->activation_dtype());
        return slice_sequence(own.reshape(Shape{rows, tokens, own.shape().last()}), 0, used);
      },
      token_masks, context);
}

std::vector<Tensor> Hierarchy::embeddings(const Tensor& ids) const {
  std::vector<Tensor> all;
  for (int n = config_.stages() - 1; n >= 0; --n) {
    std::vector<std::int64_t> sizes(ids.shape().begin(), ids.shape().begin() + n + 2);
    sizes.push_back(config_.hidden_dims[static_cast<std::size_t>(n)]);
    all.push_back(embed(n, ids.reshape(Shape{1, ids.numel()})).reshape(Shape(std::span<const std::int64_t>(sizes))));
  }
  return all;
}

// Runs the stages from global to local for sequences of `length` bytes. With length 0 only the local stage runs, on its start token.
Tensor Hierarchy::run_stages(std::int64_t batch, std::int64_t length, const StageTokens& embedded, std::span<const Tensor> token_masks,
                             const ForwardContext& context) const {
  const int last = config_.stages() - 1;
  std::int64_t patches = 1;  // per input sequence: the stage has batch * patches sequences
  Tensor above;              // output of the stage above for each token of this stage
  for (int n = length == 0 ? last : 0; n <= last; ++n) {
    const Stage& stage = stages_[static_cast<std::size_t>(n)];
    const std::int64_t rows = batch * patches, tokens = length / patches / config_.patch_bytes(n);
    // With a start token, the last output of a stage above the local one is unused: it would predict the next patch.
    const std::int64_t used = n == last ? tokens : tokens - start_tokens_;
    if (above.defined()) above = slice_sequence(above, 0, used);
    Tensor x = embedded(n, rows, tokens, used);
    x = stage_input(start_of(stage), rotated(n, std::move(x), {}), positions_of(stage), above);
    ForwardContext here = of_patches(context, patches, 0);
    here.token_mask = token_masks.empty() ? Tensor{} : token_masks[static_cast<std::size_t>(n)];
    const Tensor attended = run_stage(n, x, here);  // (rows, start + used, D)
    if (n == last) return attended.reshape(Shape{batch, patches, start_tokens_ + tokens, attended.size(2)});
    above = to_next(n, attended.reshape(Shape{rows * tokens, attended.size(2)}));
    patches *= tokens;
  }
  return {};
}

Tensor Hierarchy::rotated(int n, Tensor x, const Tensor& positions) const {
  const Stage& stage = stages_[static_cast<std::size_t>(n)];
  return stage.frequencies == nullptr ? x : rotary(std::move(x), stage.frequencies->tensor(), RotaryPairs::Interleaved, 1, positions);
}

Tensor Hierarchy::to_next(int n, const Tensor& outputs) const {
  const LinearParameters& projection = stages_[static_cast<std::size_t>(n)].to_next;
  const auto next = static_cast<std::size_t>(n + 1);
  return projection(outputs, projection.weight->activation_dtype()).reshape(Shape{outputs.size(0), config_.seq_lens[next], config_.hidden_dims[next]});
}

Tensor Hierarchy::next_input(int n, const Tensor& x, const Tensor& above, std::span<const std::int64_t> lengths) const {
  const Stage& stage = stages_[static_cast<std::size_t>(n)];
  if (lengths.front() == 0) return stage_input(start_of(stage), rotated(n, x, {}), positions_of(stage), above);
  const Shape batch{std::ssize(lengths)};
  Tensor first;  // index of the first token, without the start token
  if (stage.frequencies != nullptr) {
    std::vector<std::int64_t> before(lengths.begin(), lengths.end());
    for (std::int64_t& length : before) --length;
    first = from_values<std::int64_t>(batch, before, x.device());
  }
  return stage_input_at(start_of(stage), rotated(n, x, first), positions_of(stage), above, from_values<std::int64_t>(batch, lengths, x.device()));
}

int stage_of_parameter(const std::string& name, int stages) {
  const std::size_t dot = name.find('.');
  const std::string group = name.substr(0, dot);
  if (group == "to_logits") return stages - 1;
  int number = 0;
  if (dot == std::string::npos || std::from_chars(name.data() + dot + 1, name.data() + name.size(), number).ec != std::errc()) return -1;
  if (group == "token_embs_rev") return stages - 1 - number;
  return group == "pos_embs" || group == "start_tokens" || group == "stage_models" || group == "to_next_stage_proj" ? number : -1;
}

}  // namespace mblm
