// The custom block from YAML and from a checkpoint.
#include <filesystem>
#include <iostream>

#include "lstm_block.h"

const char* const yaml_model_config = R"(
num_tokens: 257
hidden_dims: [256, 256]
seq_lens: [1024, 8]
num_layers: [2, 2]
pad_token_id: 256
train_checkpoint_chunks: null
block:
    - dropout: 0.1
      pos_emb_type: null
    - attn_head_dims: 64
      attn_num_heads: 4
      attn_use_rot_embs: true
      use_flash_attn: true
      pos_emb_type: fixed
)";

int main() {
  using namespace mblm;

  BlockRegistry blocks;  // the built-in blocks
  blocks.add<lstm::LstmConfig>();

  // The first block's fields fit only the type lstm. `block_type: lstm` would name it explicitly.
  Model model(parse_model_config(yaml_model_config, "yaml_model_config", blocks));
  model.allocate();
  model.initialize(1);

  const std::vector<std::int64_t> ids = ids_of("Hello, bytes");
  const Tensor x = from_values(Shape{1, std::ssize(ids)}, ids);
  std::cout << "loss " << model.loss(x).loss.item() << '\n';

  save_model(model, "lstm.safetensors");
  const auto again = load_model("lstm.safetensors", blocks);
  std::filesystem::remove("lstm.safetensors");
  std::cout << "loss of the saved model " << again->loss(x).loss.item() << '\n';

  try {
    parse_model_config(std::string(yaml_model_config).replace(std::string(yaml_model_config).find("0.1"), 3, "1.5"), "wrong.yaml", blocks);
  } catch (const ConfigError& error) {
    std::cout << error.what() << '\n';
  }
}
