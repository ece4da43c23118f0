// A model from YAML text. read_model_config reads a file.
#include <iostream>

#include "mblm/mblm.h"

const char* const yaml_model_config = R"(
num_tokens: 257
hidden_dims: [256, 256]
seq_lens: [1024, 8]
num_layers: [2, 2]
pad_token_id: 256
train_checkpoint_chunks: null
block:
    - d_state: 128
      d_conv: 4
      expand: 2
      headdim: 64
      pos_emb_type: null
    - attn_head_dims: 64
      attn_num_heads: 4
      attn_use_rot_embs: true
      use_flash_attn: true
      pos_emb_type: fixed
)";

int main() {
  using namespace mblm;

  Model model(parse_model_config(yaml_model_config, "yaml_model_config", BlockRegistry()));
  model.allocate();
  model.initialize(1);

  const std::vector<std::int64_t> ids = ids_of("Hello, bytes");
  const Tensor x = from_values(Shape{1, std::ssize(ids)}, ids);
  std::cout << "loss " << model.loss(x).loss.item() << '\n';
}
