// Another custom block, the gated recurrent unit (Cho et al., 2014), in a model that is trained for some steps without the trainer.
#include <cmath>
#include <iostream>

#include "mblm/mblm.h"

namespace {

using namespace mblm;

// Each layer is a torch.nn.GRU with the gates r, z, n (D each) of i = x_t W_ih^T + b_ih and j = h_{t-1} W_hh^T + b_hh:
//   r = sigmoid(i_r + j_r),  z = sigmoid(i_z + j_z),  n = tanh(i_n + r j_n),  h_t = (1 - z) n + z h_{t-1}.
// The input of the next layer is h. The output is a mix of all layers, sum_l softmax(mix)_l h^l, with one learned number per layer
// (Peters et al., 2018).
class GruBlock final : public StageBlock {
 public:
  GruBlock(const Scope& scope, std::int64_t width, std::int64_t layers) : width_(width), mix_(scope.add("mix", Shape{layers}, Init::constant(0))) {
    const Init init = Init::uniform(1 / std::sqrt(static_cast<float>(width)));
    for (std::int64_t l = 0; l < layers; ++l) {
      const auto add = [&](const std::string& name, const Shape& shape) { return &scope.add("gru." + name + "_l" + std::to_string(l), shape, init); };
      Layer layer;
      layer.input.weight = add("weight_ih", Shape{3 * width, width});
      layer.recurrent.weight = add("weight_hh", Shape{3 * width, width});
      layer.input.bias = add("bias_ih", Shape{3 * width});
      layer.recurrent.bias = add("bias_hh", Shape{3 * width});
      layers_.push_back(layer);
    }
  }

  Tensor forward(const Tensor& x, State* state, const ForwardContext&) const override {
    const std::unique_ptr<State> fresh = state == nullptr ? start(x.size(0)) : nullptr;
    State& memory = state == nullptr ? *fresh : *state;
    const Tensor shares = softmax(mix_.tensor());  // (L)
    Tensor h = x, y;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      h = run_layer(layers_[l], h, memory.tensors[l]);
      const auto place = static_cast<std::int64_t>(l);
      const Tensor part = multiply(h, shares.slice(place, place + 1));  // a scalar (1) broadcasts with (B, T, D)
      y = l == 0 ? part : add(y, part);
    }
    memory.advance(x.size(1));
    return y;
  }

  std::unique_ptr<State> start(std::int64_t batch) const override {
    const Tensor& like = mix_.tensor();
    auto state = std::make_unique<State>(batch);
    for (std::size_t l = 0; l < layers_.size(); ++l) state->tensors.push_back(zeros(Shape{batch, width_}, like.dtype(), like.device()));
    return state;
  }

 private:
  struct Layer {
    LinearParameters input, recurrent;  // W_ih (3 D, D), b_ih and W_hh (3 D, D), b_hh
  };

  // x (B, T, D) -> (B, T, D). Computes the input products of all tokens at once, then the recurrence token by token.
  Tensor run_layer(const Layer& layer, const Tensor& x, Tensor& h) const {
    const std::int64_t tokens = x.size(1);
    const std::vector<std::int64_t> each_token(static_cast<std::size_t>(tokens), 3 * width_), each_gate(3, width_);
    std::vector<Tensor> outputs;
    for (const Tensor& input : split_columns(layer.input(x).reshape(Shape{x.size(0), tokens * 3 * width_}), each_token)) {
      const std::vector<Tensor> i = split_columns(input, each_gate), j = split_columns(layer.recurrent(h), each_gate);
      const Tensor r = sigmoid(add(i[0], j[0])), z = sigmoid(add(i[1], j[1])), n = tanh(add(i[2], multiply(r, j[2])));
      h = add(n, multiply(z, subtract(h, n)));
      outputs.push_back(h);
    }
    return concat_columns(outputs).reshape(x.shape());
  }

  const std::int64_t width_;
  const Parameter& mix_;  // (L)
  std::vector<Layer> layers_;
};

struct GruConfig : BlockConfig {
  std::string_view type() const override { return "gru"; }
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override {
    return std::make_unique<GruBlock>(scope, width, layers);
  }
};

}  // namespace

int main() {
  const auto local = std::make_shared<TransformerConfig>();
  local->attn_head_dims = 16;
  local->attn_num_heads = 4;
  local->attn_use_rot_embs = true;
  local->pos_emb_type = PositionKind::Fixed;

  Model model({.num_tokens = 257,
               .pad_token_id = 256,
               .hidden_dims = {64, 64},
               .seq_lens = {16, 8},
               .num_layers = {2, 1},
               .train_checkpoint_chunks = {},
               .blocks = {std::make_shared<GruConfig>(), local}});
  model.allocate();
  model.initialize(1);

  const std::string text = "the cat sat on the mat, the dog sat on the log, the cow sat on the plow";
  const std::vector<std::int64_t> ids = ids_of(text);
  const ModelInput input = prepare_input(model.config(), from_values(Shape{1, std::ssize(ids)}, ids));

  StepRunner runner(model, 1);  // one batch per update
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    last = runner.micro_step(input, {.training = true}).item();
    runner.optimizer_step(0.005);
    if (step == 0) first = last;
    if (step % 20 == 0) std::cout << "step " << step << ", loss " << last << '\n';
  }
  std::cout << "loss " << first << " at the first step, " << last << " at the last step\n";

  const std::string prompt = "the cat sat on";
  std::cout << prompt;
  for (const std::int64_t id : generate(model, ids_of(prompt), 8, {.temperature = 0})) std::cout << static_cast<char>(id);
  std::cout << '\n';
  return last < first / 4 ? 0 : 1;
}
