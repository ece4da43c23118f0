#include "mblm/config/config.h"

namespace mblm {

std::int64_t ModelConfig::patch_bytes(int stage) const {
  std::int64_t bytes = 1;
  for (std::size_t n = static_cast<std::size_t>(stage) + 1; n < seq_lens.size(); ++n) bytes *= seq_lens[n];
  return bytes;
}

std::int64_t ModelConfig::context() const { return patch_bytes(-1); }

bool ModelConfig::fixed_context() const { return blocks.front()->pos_emb_type == PositionKind::Fixed; }

// Per stage: the lookup table, the position table, the start token (not in masked models) and the block; above the local stage
// also the patch embedding (norm, linear, norm) and the projection to the next stage. Then the logits.
double parameter_count(const ModelConfig& config) {
  const auto size = [](const std::vector<std::int64_t>& sizes, std::size_t n) { return static_cast<double>(sizes[n]); };
  const std::size_t stages = config.seq_lens.size();
  const double local = size(config.hidden_dims, stages - 1), tokens = static_cast<double>(config.num_tokens);
  double count = tokens * local * static_cast<double>(stages) + tokens * local + tokens, patch = 1;
  for (std::size_t n = stages; n-- > 0;) {
    const double width = size(config.hidden_dims, n);
    if (n + 1 < stages) {
      const double input = patch * local, next = size(config.hidden_dims, n + 1) * size(config.seq_lens, n + 1);
      count += 2 * input + input * width + 3 * width + next * width + next;
    }
    if (config.blocks[n]->pos_emb_type == PositionKind::Fixed) count += size(config.seq_lens, n) * width;
    count += (config.is_masked() ? 0 : width) + config.blocks[n]->parameter_count(config.hidden_dims[n], config.num_layers[n]);
    patch *= size(config.seq_lens, n);
  }
  return count;
}

}  // namespace mblm
