// Random small models of any depth, widths and blocks.
#pragma once

#include "tests/small_model.h"

namespace mblm::testing {

using Random = std::mt19937_64;

inline std::int64_t one_of(Random& random, const std::vector<std::int64_t>& values) { return values[random() % values.size()]; }

// A random block with all dropout rates set to `dropout`.
inline std::string random_block(Random& random, double dropout) {
  const std::string positions = std::vector<std::string>{"fixed", "rope", "null"}[random() % 3];
  const std::int64_t heads = one_of(random, {1, 2, 3}), head_dims = one_of(random, {2, 6, 8}), rotary = one_of(random, {0, 1});
  const std::int64_t states = one_of(random, {1, 5, 8}), taps = one_of(random, {1, 2, 3, 4}), expand = one_of(random, {1, 2, 3});
  switch (random() % 3) {
    case 0:
      return concat_text("{block_type: transformer, attn_head_dims: ", head_dims, ", attn_num_heads: ", heads, ", attn_use_rot_embs: ",
                         rotary ? "true" : "false", ", attn_dropout: ", dropout, ", ff_dropout: ", dropout, ", ff_multiplier: ", expand,
                         ", pos_emb_type: ", positions, "}");
    case 1:
      return concat_text("{block_type: mamba2, d_state: ", states, ", d_conv: ", taps, ", expand: ", expand, ", headdim: 2, dropout: ", dropout,
                         ", pos_emb_type: ", positions, "}");
    default:
      return concat_text("{block_type: mamba1, d_state: ", states, ", d_conv: ", taps, ", expand: ", expand, ", headdim: 2, pos_emb_type: ", positions, "}");
  }
}

// The model depends only on the seed, apart from its dropout rates.
inline ModelConfig random_config(std::uint64_t seed, double dropout = 0) {
  Random random(seed);
  const auto stages = 1 + seed % 4;
  std::string lens, dims, layers, blocks;
  for (std::uint64_t n = 0; n < stages; ++n) {
    const std::string comma = n == 0 ? "" : ", ";
    lens += concat_text(comma, stages == 1 ? one_of(random, {6, 13, 70}) : one_of(random, {1, 2, 3, 4}));
    dims += concat_text(comma, one_of(random, {4, 6, 10, 16}));
    layers += concat_text(comma, one_of(random, {1, 2}));
    blocks += comma + random_block(random, dropout);
  }
  return config_of("[" + lens + "]", "[" + dims + "]", "[" + layers + "]", "[" + blocks + "]");
}

}  // namespace mblm::testing
