// The Mamba-2 block with one group (spec: "Mamba-2 block"; Dao and Gu, "Transformers are SSMs", 2024).
#include <cmath>

#include "mblm/config/block_config.h"
#include "mblm/mamba_init.h"
#include "mblm/stage_block.h"
#include "ops/add.h"
#include "ops/causal_conv1d.h"
#include "ops/columns.h"
#include "ops/rms_norm.h"
#include "ops/silu.h"
#include "ops/softplus.h"
#include "ops/ssd_scan.h"

namespace mblm {
namespace {

constexpr double norm_eps = 1e-5;

Tensor norm(const Tensor& x, const Parameter& weight) {
  return rms_norm(x, weight.tensor(), RmsForm::MeanSquare, norm_eps, weight.activation_dtype());
}

struct Layer {
  Parameter* norm;
  LinearParameters in;  // z, x, B, C, dt
  Parameter *conv_weight, *conv_bias, *dt_bias, *a_log, *d, *gate_norm;
  LinearParameters out;
};

class Mamba2 final : public StageBlock {
 public:
  Mamba2(const Mamba2Config& config, const Scope& scope, std::int64_t width, std::int64_t layers)
      : config_(config), inner_(config.expand * width), heads_(inner_ / config.headdim), conv_width_(inner_ + 2 * config.d_state) {
    for (std::int64_t l = 0; l < layers; ++l) layers_.push_back(make_layer(scope.child("layers." + std::to_string(l)), width, layers));
    norm_ = &scope.add("norm_f.weight", Shape{width}, Init::constant(1));
    dropout_site_ = scope.site("dropout");
  }

  Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const override {
    Tensor residual = x, hidden;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (l > 0) residual = add(hidden, residual);
      hidden = mix(layers_[l], norm(residual, *layers_[l].norm), state == nullptr ? nullptr : &state->tensors[2 * l]);
    }
    hidden = dropout(hidden, config_.dropout, dropout_site_, context);
    if (state != nullptr) state->advance(x.size(1));
    return norm(add(hidden, residual), *norm_);
  }

  // Per layer: the last inputs of the convolution (B, W - 1, C), in the dtype of activations, and the state of the scan (B, H, p, S).
  std::unique_ptr<State> start(std::int64_t batch) const override {
    auto state = std::make_unique<State>(batch);
    const Tensor &window = norm_->factor(), &scan = norm_->tensor();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      state->tensors.push_back(zeros(Shape{batch, config_.d_conv - 1, conv_width_}, window.dtype(), window.device()));
      state->tensors.push_back(zeros(Shape{batch, heads_, config_.headdim, config_.d_state}, scan.dtype(), scan.device()));
    }
    return state;
  }

 private:
  Layer make_layer(const Scope& scope, std::int64_t width, std::int64_t layers) const {
    Layer layer;
    const Scope mixer = scope.child("mixer");
    const Init conv = Init::uniform(1.0f / std::sqrt(static_cast<float>(config_.d_conv)));
    layer.norm = &scope.add("norm.weight", Shape{width}, Init::constant(1));
    layer.in = add_linear(mixer, "in_proj", width, inner_ + conv_width_ + heads_, false);
    layer.conv_weight = &mixer.add("conv1d.weight", Shape{conv_width_, 1, config_.d_conv}, conv);
    layer.conv_bias = &mixer.add("conv1d.bias", Shape{conv_width_}, conv);
    layer.dt_bias = &mixer.add("dt_bias", Shape{heads_}, mamba_dt_bias());
    layer.a_log = &mixer.add("A_log", Shape{heads_}, mamba2_a_log());
    layer.d = &mixer.add("D", Shape{heads_}, Init::constant(1));
    layer.gate_norm = &mixer.add("norm.weight", Shape{inner_}, Init::constant(1));
    const Init out = Init::uniform(1.0f / std::sqrt(static_cast<float>(inner_))).scaled(1.0f / std::sqrt(static_cast<float>(layers)));
    layer.out.weight = &mixer.add("out_proj.weight", Shape{width, inner_}, out);
    return layer;
  }

  Tensor mix(const Layer& layer, const Tensor& u, Tensor* kept) const {
    const std::int64_t sections[] = {inner_, conv_width_, heads_};
    const std::vector<Tensor> projected = split_columns(layer.in(u), sections);
    const Tensor &z = projected[0], &dt = projected[2];
    Tensor window, last_state;
    const Tensor convolved = causal_conv1d_silu(projected[1], layer.conv_weight->tensor(), layer.conv_bias->tensor(), kept == nullptr ? Tensor{} : kept[0],
                                                kept == nullptr ? nullptr : &window);
    const std::int64_t parts[] = {inner_, config_.d_state, config_.d_state};
    const std::vector<Tensor> xbc = split_columns(convolved, parts);
    const Tensor y = ssd_scan(xbc[0], softplus(dt, layer.dt_bias->tensor()), layer.a_log->tensor(), xbc[1], xbc[2], layer.d->tensor(),
                              kept == nullptr ? Tensor{} : kept[1], kept == nullptr ? nullptr : &last_state);
    if (kept != nullptr) {
      kept[0] = window;
      kept[1] = last_state;
    }
    return layer.out(norm(silu_gate(y, z), *layer.gate_norm));
  }

  const Mamba2Config config_;
  const std::int64_t inner_, heads_, conv_width_;
  std::vector<Layer> layers_;
  Parameter* norm_ = nullptr;
  std::uint32_t dropout_site_ = 0;
};

}  // namespace

std::unique_ptr<StageBlock> Mamba2Config::build(const Scope& scope, std::int64_t width, std::int64_t layers) const {
  return std::make_unique<Mamba2>(*this, scope, width, layers);
}

BlockCost Mamba2Config::cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const {
  const double d = static_cast<double>(width), t = static_cast<double>(tokens), n = static_cast<double>(layers), inner = static_cast<double>(expand) * d,
               s = static_cast<double>(d_state), heads = inner / static_cast<double>(headdim), chunk = std::min(t, static_cast<double>(64));
  BlockCost cost;
  // Projections, convolution, and per chunk the quadratic form (causal half) plus reading and updating the state.
  const double scan = t * chunk * (s + inner) + 4 * t * inner * s;
  cost.flops = n * (2 * t * d * (3 * inner + 2 * s + heads) + 2 * t * static_cast<double>(d_conv) * (inner + 2 * s) + scan);
  cost.activations = n * t * (3 * d + 7 * inner + 6 * s + 3 * heads);
  return cost;
}

}  // namespace mblm
