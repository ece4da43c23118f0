// Stands in for cuDNN on the emulated device: plain loops, which take every shape of sdpa_takes and check the addresses.
#include "cuda/sdpa.h"

#include <cmath>
#include <vector>

#include "tests/cuda/extent.h"

namespace mblm::cuda {
namespace {

using testing::check_disjoint;
using testing::check_extent;
using testing::Extent;

struct Sizes {
  std::int64_t batch, tokens, heads, head_size;
  bool causal;

  std::int64_t visible(std::int64_t query) const { return causal ? query + 1 : tokens; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_size)); }
};

Sizes sizes_of(const Tensor& qkv, std::int64_t heads, bool causal) {
  return {qkv.size(0), qkv.size(1), heads, qkv.size(2) / (3 * heads), causal};
}

Extent extent_of(const char* name, const Tensor& x) { return {name, raw(x), static_cast<std::int64_t>(x.bytes())}; }

std::uint64_t total_bytes(std::initializer_list<Extent> extents) {
  std::int64_t sum = 0;
  for (const Extent& e : extents) sum += e.bytes;
  return static_cast<std::uint64_t>(sum);
}

// The vectors of one head as float32 rows (T, d).
struct Rows {
  std::vector<float> v;
  std::int64_t width;
  Rows(std::int64_t tokens, std::int64_t head_size) : v(static_cast<std::size_t>(tokens * head_size)), width(head_size) {}
  float* operator[](std::int64_t i) { return v.data() + i * width; }
};

// Rows of a head of a (B, T, ..., d) array whose tokens are `stride` elements apart.
Rows read(const bfloat16* first, const Sizes& s, std::int64_t stride) {
  Rows rows(s.tokens, s.head_size);
  for (std::int64_t i = 0; i < s.tokens; ++i)
    for (std::int64_t j = 0; j < s.head_size; ++j) rows[i][j] = static_cast<float>(first[i * stride + j]);
  return rows;
}
void write(bfloat16* first, const Sizes& s, std::int64_t stride, Rows& rows) {
  for (std::int64_t i = 0; i < s.tokens; ++i)
    for (std::int64_t j = 0; j < s.head_size; ++j) first[i * stride + j] = bfloat16(rows[i][j]);
}

float dot(const float* a, const float* b, std::int64_t n) {
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
void add_scaled(float* to, float factor, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// Runs f(q, k, v of the head, index of its first element in y, index of its log-sum-exp) for each head of each sequence.
template <class F>
void for_each_head(const Sizes& s, const bfloat16* qkv, F&& f) {
  const std::int64_t width = s.heads * s.head_size;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const bfloat16* first = qkv + b * s.tokens * 3 * width + h * s.head_size;
      Rows q = read(first, s, 3 * width), k = read(first + width, s, 3 * width), v = read(first + 2 * width, s, 3 * width);
      f(q, k, v, b * s.tokens * width + h * s.head_size, (b * s.heads + h) * s.tokens);
    }
}

void forward(const Sizes& s, const bfloat16* qkv, bfloat16* y, float* log_sum_exp) {
  for_each_head(s, qkv, [&](Rows& q, Rows& k, Rows& v, std::int64_t first_y, std::int64_t first_lse) {
    Rows out(s.tokens, s.head_size);
    std::vector<float> p(static_cast<std::size_t>(s.tokens));
    for (std::int64_t i = 0; i < s.tokens; ++i) {
      const std::int64_t keys = s.visible(i);
      float largest = -INFINITY, sum = 0;
      for (std::int64_t j = 0; j < keys; ++j) largest = std::max(largest, p[static_cast<std::size_t>(j)] = s.scale() * dot(q[i], k[j], s.head_size));
      for (std::int64_t j = 0; j < keys; ++j) sum += p[static_cast<std::size_t>(j)] = std::exp(p[static_cast<std::size_t>(j)] - largest);
      for (std::int64_t j = 0; j < keys; ++j) add_scaled(out[i], p[static_cast<std::size_t>(j)] / sum, v[j], s.head_size);
      log_sum_exp[first_lse + i] = largest + std::log(sum);
    }
    write(y + first_y, s, s.heads * s.head_size, out);
  });
}

// p_ij = exp(score - log_sum_exp); dv_j = sum_i p_ij dy_i; ds_ij = p_ij (dy_i . v_j - dy_i . y_i); dq and dk from ds.
void backward(const Sizes& s, const bfloat16* qkv, const bfloat16* y, const float* log_sum_exp, const bfloat16* dy, bfloat16* dqkv) {
  const std::int64_t width = s.heads * s.head_size;
  for_each_head(s, qkv, [&](Rows& q, Rows& k, Rows& v, std::int64_t first_y, std::int64_t first_lse) {
    Rows out = read(y + first_y, s, width), dout = read(dy + first_y, s, width);
    Rows dq(s.tokens, s.head_size), dk(s.tokens, s.head_size), dv(s.tokens, s.head_size);
    for (std::int64_t i = 0; i < s.tokens; ++i) {
      const float delta = dot(dout[i], out[i], s.head_size);
      for (std::int64_t j = 0; j < s.visible(i); ++j) {
        const float p = std::exp(s.scale() * dot(q[i], k[j], s.head_size) - log_sum_exp[first_lse + i]);
        const float ds = s.scale() * p * (dot(dout[i], v[j], s.head_size) - delta);
        add_scaled(dv[j], p, dout[i], s.head_size);
        add_scaled(dq[i], ds, k[j], s.head_size);
        add_scaled(dk[j], ds, q[i], s.head_size);
      }
    }
    const std::int64_t sequence = first_y / (s.tokens * width);
    bfloat16* first = dqkv + sequence * s.tokens * 3 * width + first_y % width;
    write(first, s, 3 * width, dq);
    write(first + width, s, 3 * width, dk);
    write(first + 2 * width, s, 3 * width, dv);
  });
}

}  // namespace

bool sdpa_forward(const Tensor& qkv, std::int64_t heads, bool causal, Tensor& y, Tensor& log_sum_exp) {
  if (!sdpa_takes(qkv, heads) || !sdpa_aligned({&y, &log_sum_exp})) return false;
  const Extent in = extent_of("qkv", qkv), out = extent_of("y", y), lse = extent_of("log_sum_exp", log_sum_exp);
  for (const Extent& e : {in, out, lse}) check_extent("sdpa_forward", e, 16);
  check_disjoint("sdpa_forward", out, {in, lse});
  check_disjoint("sdpa_forward", lse, {in});
  const Sizes s = sizes_of(qkv, heads, causal);
  const auto work = [=, qkv = data<bfloat16>(qkv), y = data<bfloat16>(y), log_sum_exp = data<float>(log_sum_exp)] {
    forward(s, qkv, y, log_sum_exp);
    for (const Extent& e : {out, lse}) emulator::note_host_write(e.begin, static_cast<std::size_t>(e.bytes));
  };
  emulator::enqueue(compute_stream(), work, total_bytes({in, out, lse}));
  return true;
}

bool sdpa_backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, std::int64_t heads, bool causal, Tensor& dqkv) {
  if (!sdpa_takes(qkv, heads) || !sdpa_aligned({&y, &log_sum_exp, &dy, &dqkv})) return false;
  const Extent in = extent_of("qkv", qkv), in_y = extent_of("y", y), lse = extent_of("log_sum_exp", log_sum_exp), in_dy = extent_of("dy", dy),
               out = extent_of("dqkv", dqkv);
  for (const Extent& e : {in, in_y, lse, in_dy, out}) check_extent("sdpa_backward", e, 16);
  check_disjoint("sdpa_backward", out, {in, in_y, lse, in_dy});
  const Sizes s = sizes_of(qkv, heads, causal);
  const auto work = [=, qkv = data<bfloat16>(qkv), y = data<bfloat16>(y), log_sum_exp = data<float>(log_sum_exp), dy = data<bfloat16>(dy),
                     dqkv = data<bfloat16>(dqkv)] {
    backward(s, qkv, y, log_sum_exp, dy, dqkv);
    emulator::note_host_write(out.begin, static_cast<std::size_t>(out.bytes));
  };
  emulator::enqueue(compute_stream(), work, total_bytes({in, in_y, lse, in_dy, out}));
  return true;
}

std::string sdpa_problem() { return {}; }

}  // namespace mblm::cuda
