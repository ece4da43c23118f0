// A model whose global stage is a custom block.
#include "lstm_block.h"

#include <iostream>

int main() {
  using namespace mblm;

  const auto global = std::make_shared<lstm::LstmConfig>();
  global->dropout = 0.1;

  const auto local = std::make_shared<TransformerConfig>();
  local->attn_head_dims = 64;
  local->attn_num_heads = 4;
  local->attn_use_rot_embs = true;
  local->pos_emb_type = PositionKind::Fixed;

  Model model({.num_tokens = 257,
               .pad_token_id = 256,
               .hidden_dims = {256, 256},
               .seq_lens = {1024, 8},
               .num_layers = {2, 2},
               .train_checkpoint_chunks = {},
               .blocks = {global, local}});
  model.allocate();
  model.initialize(1);

  const std::vector<std::int64_t> ids = ids_of("Hello, bytes");
  const Tensor x = from_values(Shape{1, std::ssize(ids)}, ids);
  const Tensor loss = model.loss(x, {}, {.training = true}).loss;  // training enables dropout
  std::cout << "loss " << loss.item() << '\n';

  backward(loss);
  for (const NamedTensor& gradient : model.parameters().named_gradients())
    if (gradient.name.starts_with("stage_models.0.")) std::cout << gradient.name << ' ' << gradient.tensor.shape() << '\n';
}
