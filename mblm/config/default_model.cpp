#include "engine/error.h"
#include "mblm/config/config.h"

namespace mblm {
namespace {

constexpr std::string_view small_model = R"(input_seq_len: 1024
num_tokens: 257
pad_token_id: 256
hidden_dims: [256, 128]
seq_lens: [256, 4]
num_layers: [3, 2]
train_checkpoint_chunks: null
block:
  - {block_type: mamba2, d_state: 64, d_conv: 4, expand: 2, headdim: 64, pos_emb_type: null}
  - {block_type: transformer, attn_head_dims: 32, attn_num_heads: 4, attn_use_rot_embs: true, pos_emb_type: fixed}
)";

constexpr std::string_view medium_model = R"(input_seq_len: 4096
num_tokens: 257
pad_token_id: 256
hidden_dims: [512, 256]
seq_lens: [512, 8]
num_layers: [10, 4]
train_checkpoint_chunks: null
block:
  - {block_type: mamba2, d_state: 64, d_conv: 4, expand: 2, headdim: 64, pos_emb_type: null}
  - {block_type: transformer, attn_head_dims: 64, attn_num_heads: 4, attn_use_rot_embs: true, pos_emb_type: fixed}
)";

constexpr std::string_view large_model = R"(input_seq_len: 8192
num_tokens: 257
pad_token_id: 256
hidden_dims: [1024, 1024]
seq_lens: [1024, 8]
num_layers: [25, 21]
train_checkpoint_chunks: null
block:
  - {block_type: mamba2, d_state: 128, d_conv: 4, expand: 2, headdim: 64, pos_emb_type: null}
  - {block_type: transformer, attn_head_dims: 64, attn_num_heads: 16, attn_use_rot_embs: true, pos_emb_type: fixed}
)";

}  // namespace

std::string_view model_yaml(ModelSize size) {
  switch (size) {
    case ModelSize::Small: return small_model;
    case ModelSize::Medium: return medium_model;
    case ModelSize::Large: return large_model;
  }
  throw ValueError("model_yaml: expected a size of the enumeration");
}

}  // namespace mblm
