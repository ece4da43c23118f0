// A small config for tests to modify.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "mblm/config/config.h"
#include "tests/error_text.h"

namespace mblm::testing {

// A config with two stages and all required sections, one field per line.
inline const std::string small_config =
    "params:\n"                               // 1
    "  input_seq_len: 32\n"                   // 2
    "  num_tokens: 256\n"                     // 3
    "  pad_token_id: 0\n"                     // 4
    "  hidden_dims: [16, 24]\n"               // 5
    "  seq_lens: [8, 4]\n"                    // 6
    "  num_layers: [1, 2]\n"                  // 7
    "  block:\n"                              // 8
    "    - d_state: 8\n"                      // 9
    "      d_conv: 4\n"                       // 10
    "      expand: 2\n"                       // 11
    "      headdim: 8\n"                      // 12
    "    - attn_head_dims: 8\n"               // 13
    "      attn_num_heads: 2\n"               // 14
    "      attn_use_rot_embs: true\n"         // 15
    "train:\n"                                // 16
    "  target_elements: 1_000\n"              // 17
    "  target_elements_strategy: sequence\n"  // 18
    "  batch_size: 2\n"                       // 19
    "  learning_rate: 1e-3\n"                 // 20
    "  gradient_accumulate_every: 1\n"        // 21
    "io:\n"                                   // 22
    "  name_model: small\n"                   // 23
    "  output_dir: runs\n"                    // 24
    "  dataset_id: files\n"                   // 25
    "  dataset_dir: data\n"                   // 26
    "  num_models_to_save: 1\n"               // 27
    "  validate_amount: 2\n"                  // 28
    "  log_train_loss_amount: 3\n";           // 29

inline std::string with(const std::string& from, const std::string& to, std::string text = small_config) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

inline RunConfig parsed(const std::string& yaml, const Overrides& overrides = {}) {
  return parse_run_config(yaml, "c.yaml", BlockRegistry(), overrides);
}

// The error message of small_config with `from` replaced by `to`, without the prefix `c.yaml:`.
inline std::string error_with(const std::string& from, const std::string& to) {
  const std::string text = error_text<ConfigError>([&] { parsed(with(from, to)); });
  return text.starts_with("c.yaml:") ? text.substr(7) : text;
}

inline std::string error_of(const Overrides& overrides) {
  return error_text<ConfigError>([&] { parsed(small_config, overrides); });
}

}  // namespace mblm::testing
