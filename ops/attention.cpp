#include "ops/attention.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const AttentionOptions&, Tensor&, Tensor&)> attention_forward{"attention_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const AttentionOptions&, Tensor&)> attention_backward{
    "attention_backward"};
constinit Kernel<void(const Tensor&, const Tensor&, const AttentionOptions&, Tensor&, Tensor&, Tensor&)> attention_cached_forward{
    "attention_cached_forward"};

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
  const std::int64_t tokens = qkv.size(1), width = qkv.size(2) / 3;
  refuse_gradient("attention_cached", {qkv});
  require<ValueError>(options.causal && !options.key_mask.defined() && options.dropout == 0,
                      "attention_cached: expected causal attention without key_mask and dropout");
  require<ShapeError>(cache.k.rank() == 3 && cache.k.size(0) == qkv.size(0) && cache.k.size(2) == width,
                      "attention_cached: expected a cache of shape (", qkv.size(0), ", capacity, ", width, "), got ", cache.k.shape());
  require_shape("attention_cached", "cached v", cache.v, cache.k.shape());
  require_dtype("attention_cached", "cached k", cache.k, qkv.dtype());
  require_dtype("attention_cached", "cached v", cache.v, qkv.dtype());
  require_shape("attention_cached", "lengths", cache.lengths, Shape{qkv.size(0)});
  require_dtype("attention_cached", "lengths", cache.lengths, DType::Int64);
  require<ValueError>(cache.longest >= 0 && cache.longest + tokens <= cache.k.size(1), "attention_cached: expected room for ", tokens,
                      " tokens in the cache, got ", cache.longest, " of ", cache.k.size(1), " rows in use");
  Tensor y = empty(qkv.shape().with(-1, width), qkv.dtype(), qkv.device()), k = cache.k, v = cache.v;
  attention_cached_forward(qkv, cache.lengths, options, k, v, y);
  return y;
}

}  // namespace mblm
