// The smallest configurations, texts and checkpoints with which the program can be tried.
#pragma once

#include <string>

#include "tests/run_program.h"

namespace mblm::testing {

// A stage with a Mamba-2 block over one with a Transformer block, 8 x 4 bytes of context, without an end.
inline constexpr const char* tiny_model =
    "  num_tokens: 256\n"
    "  pad_token_id: 0\n"
    "  hidden_dims: [16, 16]\n"
    "  seq_lens: [8, 4]\n"
    "  num_layers: [1, 1]\n"
    "  train_checkpoint_chunks: null\n"
    "  block:\n"
    "    - {d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}\n"
    "    - {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n";

// One Transformer stage with learned positions: a context of 16 bytes that cannot be passed.
inline constexpr const char* fixed_model =
    "  num_tokens: 128\n"
    "  pad_token_id: 0\n"
    "  hidden_dims: [16]\n"
    "  seq_lens: [16]\n"
    "  num_layers: [1]\n"
    "  train_checkpoint_chunks: null\n"
    "  block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n";

// A configuration that trains tiny_model for 16 steps on `folder`/text, into `folder`/runs.
std::string tiny_config(const TemporaryFolder& folder);
// Writes it as config.yaml, and text/ with three splits; gives the configuration's path.
std::string prepare_tiny_run(const TemporaryFolder& folder);
// Words that repeat, of about so many bytes.
std::string words(std::size_t bytes);
// `text` with `from` replaced; fails when it is not there.
std::string replaced(std::string text, const std::string& from, const std::string& to);
// A checkpoint of freshly initialised parameters; `model` is one of the above.
void save_tiny_model(const std::string& path, const char* model);

}  // namespace mblm::testing
