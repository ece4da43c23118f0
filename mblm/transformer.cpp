// The Transformer blocks (spec: "Transformer decoder block"): token shift before each branch, L2 norm with a gain, attention with
// half-split rotary embedding, exact GELU. The encoder has no token shift, and its attention uses a token mask instead of a causal mask.
#include <cmath>
#include <utility>

#include "mblm/config/block_config.h"
#include "mblm/stage_block.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/gelu.h"
#include "ops/rms_norm.h"
#include "ops/rotary.h"
#include "ops/token_shift.h"

namespace mblm {
namespace {

constexpr double norm_bound = 1e-8;

Tensor norm(const Tensor& x, const Parameter& gain) { return rms_norm(x, gain.tensor(), RmsForm::ClampedL2, norm_bound, gain.activation_dtype()); }

struct Layer {
  Parameter* attention_gain;
  LinearParameters qkv, out;  // qkv merges to_q and to_kv into one product
  Parameter* feedforward_gain;
  LinearParameters expand, contract;
  std::uint32_t attention_dropout_site, feedforward_dropout_site;
};

class Transformer final : public StageBlock {
 public:
  Transformer(const TransformerConfig& config, const Scope& scope, std::int64_t width, std::int64_t layers)
      : config_(config), is_decoder_(!config.is_encoder()), width_(width) {
    const std::int64_t inner = config.attn_num_heads * config.attn_head_dims;
    for (std::int64_t l = 0; l < layers; ++l) layers_.push_back(make_layer(scope.child("layers." + std::to_string(l)), inner));
    gain_ = &scope.add("norm.g", Shape{width}, Init::constant(1));
    if (!config.attn_use_rot_embs) return;
    // Rounded as in files, so that a saved model computes the same bits. A file may hold other values, of a model that was cast to float16.
    const Tensor exact = rotary_frequencies(config.attn_head_dims);
    const std::vector<float> rounded = exact.to_vector_as<float>();
    frequencies_ = &scope.add_constant("rotary_emb.inv_freq", from_values<double>(exact.shape(), {rounded.begin(), rounded.end()}));
  }

  Tensor forward(const Tensor& x, State* state, const ForwardContext& context) const override {
    require<ValueError>(state == nullptr || is_decoder_, "transformerEncoder: expected the whole sequence at once, got a state");
    if (state != nullptr) state->reserve(x.size(1));
    const Tensor positions = state == nullptr ? Tensor{} : state->positions(x.device());
    Tensor hidden = x;
    for (std::size_t l = 0; l < layers_.size(); ++l) hidden = forward_layer(l, hidden, state, positions, context);
    if (state != nullptr) state->advance(x.size(1));
    return norm(hidden, *gain_);
  }

  // Per layer: the last shifted halves of the two token shifts, (B, D / 2) each, in the dtype of the residual stream, and a list of keys
  // and one of values, H d wide, in the dtype of activations.
  std::unique_ptr<State> start(std::int64_t batch) const override {
    if (!is_decoder_) return nullptr;
    auto state = std::make_unique<State>(batch);
    const Tensor &residual = gain_->tensor(), &activation = gain_->factor();
    for (std::size_t i = 0; i < 2 * layers_.size(); ++i) {
      state->tensors.push_back(zeros(Shape{batch, width_ / 2}, residual.dtype(), residual.device()));
      state->add_list(config_.attn_num_heads * config_.attn_head_dims, activation.dtype(), activation.device());
    }
    return state;
  }

 private:
  Layer make_layer(const Scope& scope, std::int64_t inner) const {
    Layer layer;
    const Init projection = Init::uniform(1.0f / std::sqrt(static_cast<float>(width_)));
    layer.attention_gain = &scope.add("0.norm.g", Shape{width_}, Init::constant(1));
    layer.qkv.weight = &scope.add_merged({{"0.to_q.weight", Shape{inner, width_}, projection}, {"0.to_kv.weight", Shape{2 * inner, width_}, projection}});
    layer.out = add_linear(scope, "0.to_out", inner, width_, false);
    layer.feedforward_gain = &scope.add("1.0.g", Shape{width_}, Init::constant(1));
    layer.expand = add_linear(scope, "1.1", width_, config_.ff_multiplier * width_);
    layer.contract = add_linear(scope, "1.4", config_.ff_multiplier * width_, width_);
    layer.attention_dropout_site = scope.site("0.attn_dropout");
    layer.feedforward_dropout_site = scope.site("1.3");
    return layer;
  }

  Tensor forward_layer(std::size_t l, const Tensor& x, State* state, const Tensor& positions, const ForwardContext& context) const {
    Tensor* kept = state == nullptr ? nullptr : &state->tensors[2 * l];
    const Tensor attended = add(attend(l, shift(x, kept), state, positions, context), x);
    return add(feed_forward(layers_[l], shift(attended, kept == nullptr ? nullptr : kept + 1), context), attended);
  }

  Tensor shift(const Tensor& x, Tensor* kept) const {
    if (!is_decoder_) return x;
    if (kept == nullptr) return token_shift(x);
    Tensor last;
    const Tensor y = token_shift(x, *kept, &last);
    *kept = last;
    return y;
  }

  Tensor attend(std::size_t l, const Tensor& x, State* state, const Tensor& positions, const ForwardContext& context) const {
    const Layer& layer = layers_[l];
    Tensor qkv = layer.qkv(norm(x, *layer.attention_gain));
    if (frequencies_ != nullptr) qkv = rotary(std::move(qkv), frequencies_->tensor(), RotaryPairs::HalfSplit, 2 * config_.attn_num_heads, positions);
    AttentionOptions options;
    options.heads = config_.attn_num_heads;
    options.causal = is_decoder_;
    options.key_mask = context.token_mask;
    options.first_sequence = context.first_sequence;
    if (context.training) {
      options.dropout = static_cast<float>(config_.attn_dropout);
      options.random = context.random(layer.attention_dropout_site);
    }
    if (state == nullptr) return layer.out(attention(qkv, options));
    return layer.out(attention_cached(qkv, options, {state->lists[2 * l], state->lists[2 * l + 1], state->lengths}));
  }

  Tensor feed_forward(const Layer& layer, const Tensor& x, const ForwardContext& context) const {
    const Tensor y = gelu(layer.expand(norm(x, *layer.feedforward_gain)));
    return layer.contract(dropout(y, config_.ff_dropout, layer.feedforward_dropout_site, context));
  }

  const TransformerConfig config_;
  const bool is_decoder_;
  const std::int64_t width_;
  std::vector<Layer> layers_;
  Parameter* gain_ = nullptr;
  const Constant* frequencies_ = nullptr;  // of the rotary embedding; null without one
};

}  // namespace

std::unique_ptr<StageBlock> TransformerConfig::build(const Scope& scope, std::int64_t width, std::int64_t layers) const {
  return std::make_unique<Transformer>(*this, scope, width, layers);
}

BlockCost TransformerConfig::cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const {
  const double d = static_cast<double>(width), t = static_cast<double>(tokens), inner = static_cast<double>(attn_num_heads * attn_head_dims),
               m = static_cast<double>(ff_multiplier), n = static_cast<double>(layers);
  BlockCost cost;
  const double scores = is_encoder() ? t * t : t * (t + 1) / 2;  // causal attention computes half of the matrix
  cost.flops = n * (2 * t * d * (4 * inner + 2 * m * d) + 4 * scores * inner);
  cost.activations = n * t * (7 * d + 6 * inner + 2 * m * d);
  return cost;
}

}  // namespace mblm
