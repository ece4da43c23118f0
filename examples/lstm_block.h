// A custom stage block: the LSTM (Hochreiter and Schmidhuber, 1997) with the parameters of torch.nn.LSTM.
#pragma once

#include <cmath>

#include "mblm/mblm.h"

namespace lstm {

using namespace mblm;

// Each layer has the gates i, f, g, o = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh (D each):
//   c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g),  h_t = sigmoid(o) tanh(c_t).
// The input of the next layer is h. The output is h of the last layer. Dropout acts between layers.
class LstmBlock final : public StageBlock {
 public:
  LstmBlock(const Scope& scope, std::int64_t width, std::int64_t layers, double dropout) : width_(width), dropout_(dropout) {
    const Init init = Init::uniform(1 / std::sqrt(static_cast<float>(width)));
    for (std::int64_t l = 0; l < layers; ++l) {
      const auto add = [&](const std::string& name, const Shape& shape) {
        return &scope.add("lstm." + name + "_l" + std::to_string(l), shape, init);
      };
      Layer layer;
      layer.input.weight = add("weight_ih", Shape{4 * width, width});
      layer.recurrent.weight = add("weight_hh", Shape{4 * width, width});
      layer.input.bias = add("bias_ih", Shape{4 * width});
      layer.recurrent.bias = add("bias_hh", Shape{4 * width});
      layer.dropout_site = scope.site("dropout." + std::to_string(l));
      layers_.push_back(layer);
    }
  }

  Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const override {
    const std::unique_ptr<State> fresh = state == nullptr ? start(x.size(0)) : nullptr;
    State& memory = state == nullptr ? *fresh : *state;
    Tensor y = x;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (l > 0) y = dropout(y, dropout_, layers_[l].dropout_site, context);
      y = run_layer(layers_[l], y, memory.tensors[2 * l], memory.tensors[2 * l + 1]);
    }
    memory.advance(x.size(1));
    return y;
  }

  // State for generation: h and c of each layer (B, D). Optional: without it, generation recomputes the stage for each byte.
  std::unique_ptr<State> start(std::int64_t batch) const override {
    const Tensor& like = layers_.front().input.weight->tensor();
    auto state = std::make_unique<State>(batch);
    for (std::size_t i = 0; i < 2 * layers_.size(); ++i) state->tensors.push_back(zeros(Shape{batch, width_}, like.dtype(), like.device()));
    return state;
  }

 private:
  struct Layer {
    LinearParameters input, recurrent;  // W_ih (4 D, D), b_ih and W_hh (4 D, D), b_hh
    std::uint32_t dropout_site = 0;
  };

  // x (B, T, D) -> (B, T, D). Computes the input products of all tokens at once, then the recurrence token by token.
  Tensor run_layer(const Layer& layer, const Tensor& x, Tensor& h, Tensor& c) const {
    const std::int64_t tokens = x.size(1);
    const std::vector<std::int64_t> each_token(static_cast<std::size_t>(tokens), 4 * width_), each_gate(4, width_);
    std::vector<Tensor> outputs;
    for (const Tensor& input : split_columns(layer.input(x).reshape(Shape{x.size(0), tokens * 4 * width_}), each_token)) {
      const std::vector<Tensor> gates = split_columns(add(input, layer.recurrent(h)), each_gate);
      c = add(multiply(sigmoid(gates[1]), c), multiply(sigmoid(gates[0]), tanh(gates[2])));
      h = multiply(sigmoid(gates[3]), tanh(c));
      outputs.push_back(h);
    }
    return concat_columns(outputs).reshape(x.shape());
  }

  const std::int64_t width_;
  const double dropout_;
  std::vector<Layer> layers_;
};

// The block's fields in C++ and YAML. The scope prefixes parameter names: `stage_models.0.lstm.weight_ih_l0`.
struct LstmConfig : BlockConfig {
  double dropout = 0;

  std::string_view type() const override { return "lstm"; }
  void fields(Fields& f) override {
    f.required("dropout", dropout, probability);
    BlockConfig::fields(f);
  }
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override {
    return std::make_unique<LstmBlock>(scope, width, layers, dropout);
  }
  double parameter_count(std::int64_t width, std::int64_t layers) const override {
    return static_cast<double>(layers) * 8 * (static_cast<double>(width) + 1) * static_cast<double>(width);
  }
};

}  // namespace lstm
