// The Mamba-1 block (spec: "Mamba-1 block"; Gu and Dao, "Mamba", 2023).
#include <cmath>

#include "mblm/config/block_config.h"
#include "mblm/mamba_init.h"
#include "mblm/stage_block.h"
#include "ops/add.h"
#include "ops/causal_conv1d.h"
#include "ops/columns.h"
#include "ops/rms_norm.h"
#include "ops/selective_scan.h"
#include "ops/silu.h"
#include "ops/softplus.h"

namespace mblm {
namespace {

constexpr double norm_eps = 1e-5;

Tensor norm(const Tensor& x, const Parameter& weight) {
  return rms_norm(x, weight.tensor(), RmsForm::MeanSquare, norm_eps, weight.activation_dtype());
}

struct Layer {
  Parameter* norm;
  LinearParameters in;  // x, z
  Parameter *conv_weight, *conv_bias;
  LinearParameters x;   // low-rank input of dt, B, C
  LinearParameters dt;
  Parameter* dt_bias;
  Parameter *a_log, *d;
  LinearParameters out;
};

class Mamba1 final : public StageBlock {
 public:
  Mamba1(const Mamba1Config& config, const Scope& scope, std::int64_t width, std::int64_t layers)
      : config_(config), inner_(config.expand * width), rank_((width + 15) / 16) {
    for (std::int64_t l = 0; l < layers; ++l) layers_.push_back(make_layer(scope.child("layers." + std::to_string(l)), width));
  }

  Tensor forward(const Tensor& x, State* state, const ForwardContext&) const override {
    Tensor hidden = x;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const Tensor normed = norm(hidden, *layers_[l].norm);
      hidden = add(mix(layers_[l], normed, state == nullptr ? nullptr : &state->tensors[2 * l]), hidden);
    }
    if (state != nullptr) state->advance(x.size(1));
    return hidden;
  }

  // Per layer: the last inputs of the convolution (B, W - 1, C), in the dtype of activations, and the state of the scan (B, C, S).
  std::unique_ptr<State> start(std::int64_t batch) const override {
    auto state = std::make_unique<State>(batch);
    for (const Layer& layer : layers_) {
      const Tensor &window = layer.norm->factor(), &scan = layer.norm->tensor();
      state->tensors.push_back(zeros(Shape{batch, config_.d_conv - 1, inner_}, window.dtype(), window.device()));
      state->tensors.push_back(zeros(Shape{batch, inner_, config_.d_state}, scan.dtype(), scan.device()));
    }
    return state;
  }

 private:
  Layer make_layer(const Scope& scope, std::int64_t width) const {
    Layer layer;
    const Scope mixer = scope.child("mixer");
    const Init conv = Init::uniform(1.0f / std::sqrt(static_cast<float>(config_.d_conv)));
    layer.in = add_linear(mixer, "in_proj", width, 2 * inner_, false);
    layer.conv_weight = &mixer.add("conv1d.weight", Shape{inner_, 1, config_.d_conv}, conv);
    layer.conv_bias = &mixer.add("conv1d.bias", Shape{inner_}, conv);
    layer.x = add_linear(mixer, "x_proj", inner_, rank_ + 2 * config_.d_state, false);
    layer.dt = add_linear(mixer, "dt_proj", rank_, inner_, false);
    layer.dt_bias = &mixer.add("dt_proj.bias", Shape{inner_}, mamba_dt_bias());
    layer.a_log = &mixer.add("A_log", Shape{inner_, config_.d_state}, mamba1_a_log());
    layer.d = &mixer.add("D", Shape{inner_}, Init::constant(1));
    layer.out = add_linear(mixer, "out_proj", inner_, width, false);
    layer.norm = &scope.add("norm.weight", Shape{width}, Init::constant(1));
    return layer;
  }

  Tensor mix(const Layer& layer, const Tensor& u, Tensor* kept) const {
    const std::int64_t halves[] = {inner_, inner_};
    const std::vector<Tensor> xz = split_columns(layer.in(u), halves);
    Tensor window, last_state;
    const Tensor x = causal_conv1d_silu(xz[0], layer.conv_weight->tensor(), layer.conv_bias->tensor(), kept == nullptr ? Tensor{} : kept[0],
                                        kept == nullptr ? nullptr : &window);
    const std::int64_t parts[] = {rank_, config_.d_state, config_.d_state};
    const std::vector<Tensor> projected = split_columns(layer.x(x), parts);
    const Tensor dt = softplus(layer.dt(projected[0]), layer.dt_bias->tensor());
    const Tensor y = selective_scan(x, dt, layer.a_log->tensor(), projected[1], projected[2], layer.d->tensor(), kept == nullptr ? Tensor{} : kept[1],
                                    kept == nullptr ? nullptr : &last_state);
    if (kept != nullptr) {
      kept[0] = window;
      kept[1] = last_state;
    }
    return layer.out(silu_gate(y, xz[1]));
  }

  const Mamba1Config config_;
  const std::int64_t inner_, rank_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<StageBlock> Mamba1Config::build(const Scope& scope, std::int64_t width, std::int64_t layers) const {
  return std::make_unique<Mamba1>(*this, scope, width, layers);
}

BlockCost Mamba1Config::cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const {
  const double d = static_cast<double>(width), t = static_cast<double>(tokens), n = static_cast<double>(layers), inner = static_cast<double>(expand) * d,
               s = static_cast<double>(d_state), rank = static_cast<double>((width + 15) / 16);
  BlockCost cost;
  cost.flops = n * t * (2 * d * 3 * inner + 2 * inner * (rank + 2 * s) + 2 * rank * inner + 2 * static_cast<double>(d_conv) * inner + 9 * inner * s);
  cost.activations = n * t * (2 * d + 7 * inner + 2 * (rank + 2 * s));
  return cost;
}

}  // namespace mblm
