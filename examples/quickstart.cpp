// A model from C++ structs: a global Mamba-2 stage over a local Transformer stage.
#include <iostream>

#include "mblm/mblm.h"

int main() {
  using namespace mblm;

  const auto global = std::make_shared<Mamba2Config>();
  global->d_state = 128;
  global->d_conv = 4;
  global->expand = 2;
  global->headdim = 64;

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
  model.initialize(1);  // seed

  const std::vector<std::int64_t> ids = ids_of("Hello, bytes");
  const Tensor x = from_values(Shape{1, std::ssize(ids)}, ids);

  const Tensor logits = model.logits(x);
  const Model::Loss loss = model.loss(x);
  const Tensor hidden = model.hidden_states(x);
  std::cout << "logits " << logits.shape() << ", hidden states " << hidden.shape() << ", loss " << loss.loss.item() << '\n';

  backward(loss.loss);  // computes the gradient of every parameter
  std::cout << "gradients of " << model.parameters().named_gradients().size() << " parameters\n";
}
