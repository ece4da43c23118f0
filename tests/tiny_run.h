// Minimal configs, texts and checkpoints for tests of the program.
#pragma once

#include <string>

#include "tests/run_program.h"

namespace mblm::testing {

// A Mamba-2 stage above a Transformer stage, with a context of 8 x 4 bytes that can be exceeded.
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

// One Transformer stage with learned positions: a fixed context of 16 bytes.
inline constexpr const char* fixed_model =
    "  num_tokens: 128\n"
    "  pad_token_id: 0\n"
    "  hidden_dims: [16]\n"
    "  seq_lens: [16]\n"
    "  num_layers: [1]\n"
    "  train_checkpoint_chunks: null\n"
    "  block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n";

// A config that trains tiny_model for 16 steps on `folder`/text and writes to `folder`/runs.
std::string tiny_config(const TemporaryFolder& folder);
// Writes tiny_config as config.yaml, and text/ with three splits. Returns the path of the config.
std::string prepare_tiny_run(const TemporaryFolder& folder);
// A text of repeating words with about `bytes` bytes.
std::string words(std::size_t bytes);
// Replaces `from` by `to` in `text`. Throws if `text` does not contain `from`.
std::string replaced(std::string text, const std::string& from, const std::string& to);
// Saves a checkpoint with initial parameters; `model` is one of the configs above.
void save_tiny_model(const std::string& path, const char* model);

}  // namespace mblm::testing
