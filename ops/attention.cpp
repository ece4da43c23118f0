#include "ops/attention.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const AttentionOptions&, Tensor&, Tensor&)> attention_forward{"attention_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const AttentionOptions&, Tensor&)> attention_backward{
    "attention_backward"};
constinit Kernel<void(const Tensor&, const AttentionOptions&, const KvCache&, Tensor&)> attention_cached_forward{"attention_cached_forward"};

namespace {

void check(const Tensor& qkv, const AttentionOptions& options) {
  require_floating("attention", qkv);
  require<ShapeError>(options.heads >= 1, "attention: expected at least 1 head, got ", options.heads);
  require<ShapeError>(qkv.rank() == 3 && qkv.size(2) > 0 && qkv.size(2) % (3 * options.heads) == 0, "attention: expected qkv of shape (B, T, 3 x ",
                      options.heads, " heads x d), got ", qkv.shape());
  require<ValueError>(options.dropout >= 0 && options.dropout < 1, "attention: expected dropout in [0, 1), got ", options.dropout);
  if (!options.key_mask.defined()) return;
  require_dtype("attention", "key_mask", options.key_mask, DType::UInt8);
  require_shape("attention", "key_mask", options.key_mask, Shape{qkv.size(0), qkv.size(1)});
}

}  // namespace

Tensor attention(const Tensor& qkv, const AttentionOptions& options) {
  check(qkv, options);
  Tensor y = empty(qkv.shape().with(-1, qkv.size(2) / 3), qkv.dtype(), qkv.device());
  Tensor log_sum_exp =
      empty(Shape{qkv.size(0), options.heads, qkv.size(1)}, qkv.dtype() == DType::Float64 ? DType::Float64 : DType::Float32, qkv.device());
  attention_forward(qkv, options, y, log_sum_exp);
  return record("attention", {qkv}, y, [qkv = qkv.detach(), y, log_sum_exp, options](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dqkv = empty_like(qkv);
    attention_backward(qkv, y, log_sum_exp, dy, options, dqkv);
    return {dqkv};
  });
}

Tensor attention_cached(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache) {
  check(qkv, options);
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3;
  refuse_gradient("attention_cached", {qkv});
  require<ValueError>(options.causal && !options.key_mask.defined() && options.dropout == 0,
                      "attention_cached: expected causal attention without key_mask and dropout");
  require<ShapeError>(std::ssize(cache.k) == batch && std::ssize(cache.v) == batch && std::ssize(cache.lengths) == batch,
                      "attention_cached: expected a cache of ", batch, " sequences, got ", cache.k.size(), " k, ", cache.v.size(), " v and ",
                      cache.lengths.size(), " lengths");
  for (std::size_t b = 0; b < cache.k.size(); ++b) {
    const Tensor &k = cache.k[b], &v = cache.v[b];
    require<ShapeError>(k.rank() == 2 && k.size(1) == width, "attention_cached: expected cached k of shape (capacity, ", width, "), got ", k.shape());
    require_shape("attention_cached", "cached v", v, k.shape());
    require_dtype("attention_cached", "cached k", k, qkv.dtype());
    require_dtype("attention_cached", "cached v", v, qkv.dtype());
    require<ValueError>(cache.lengths[b] >= 0 && cache.lengths[b] + tokens <= k.size(0), "attention_cached: expected room for ", tokens,
                        " tokens in the cache, got ", cache.lengths[b], " of ", k.size(0), " rows in use");
  }
  Tensor y = empty(qkv.shape().with(-1, width), qkv.dtype(), qkv.device());
  attention_cached_forward(qkv, options, cache, y);
  return y;
}

}  // namespace mblm
