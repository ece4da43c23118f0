#include "ops/matmul.h"

#include <limits>

#include "tests/op_case.h"

namespace mblm::testing {
namespace {

// Plain loops over (batch, M, N, K); an input of rank 2 is shared by the batch.
HostArray product(const HostArray& a, const HostArray& b, bool transpose_a, bool transpose_b, const Shape& shape) {
  HostArray c(shape);
  const std::size_t M = static_cast<std::size_t>(shape[-2]), N = static_cast<std::size_t>(shape[-1]);
  const std::size_t K = static_cast<std::size_t>(a.shape[transpose_a ? -2 : -1]);
  for (std::size_t i = 0; i < c.v.size(); ++i) {
    const std::size_t batch = i / (M * N), m = i / N % M, n = i % N;
    const std::size_t a0 = a.shape.rank() == 2 ? 0 : batch * M * K, b0 = b.shape.rank() == 2 ? 0 : batch * K * N;
    for (std::size_t k = 0; k < K; ++k) c.v[i] += a.v[a0 + (transpose_a ? k * M + m : m * K + k)] * b.v[b0 + (transpose_b ? n * K + k : k * N + n)];
  }
  return c;
}

OpCase make(const std::string& name, const Shape& a, const Shape& b, bool transpose_a, bool transpose_b, double scale = 1.0) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape result = longer.with(-2, a[transpose_a ? -1 : -2]).with(-1, b[transpose_b ? -2 : -1]);
  OpCase c;
  c.name = concat_text(name, " ", a, transpose_a ? "^T x " : " x ", b, transpose_b ? "^T" : "");
  c.inputs = {{.shape = a, .scale = scale}, {.shape = b, .scale = 1 / scale}};
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> { return {matmul(in[0], in[1], transpose_a, transpose_b)}; };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> { return {product(in[0], in[1], transpose_a, transpose_b, result)}; };
  c.flops = 2.0 * static_cast<double>(result.numel()) * static_cast<double>(a[transpose_a ? -2 : -1]);
  return c;
}

OpCase make_flags(std::int64_t batch, std::int64_t M, std::int64_t K, std::int64_t N, bool transpose_a, bool transpose_b) {
  const Shape a = transpose_a ? Shape{batch, K, M} : Shape{batch, M, K}, b = transpose_b ? Shape{batch, N, K} : Shape{batch, K, N};
  return make("matmul", a, b, transpose_a, transpose_b);
}

Tensor as_bfloat16(const Tensor& x) {
  const HostArray host = to_host(x);
  std::vector<bfloat16> values;
  for (const double v : host.v) values.push_back(bfloat16(static_cast<float>(v)));
  return from_values<bfloat16>(x.shape(), values, x.device());
}

// The kernel with a bias and the previous content of c. The values are integers, so that every sum is exact and the bound is 0: a
// bfloat16 c must be the exact sum, rounded once. With beta = 0, c holds NaN before, which the kernel must not read.
OpCase make_kernel(std::int64_t M, std::int64_t K, std::int64_t N, bool transposed, bool narrow_inputs, bool narrow_result, float beta) {
  OpCase c;
  c.name = concat_text("kernel M=", M, " K=", K, " N=", N, transposed ? " transposed" : "", narrow_inputs ? " bfloat16" : "",
                       narrow_result ? " to bfloat16" : "", " beta=", beta);
  c.inputs = {{.shape = transposed ? Shape{K, M} : Shape{M, K}, .gradient = false},
              {.shape = transposed ? Shape{N, K} : Shape{K, N}, .gradient = false},
              {.shape = Shape{N}, .gradient = false},
              {.shape = Shape{M, N}, .gradient = false}};
  for (std::size_t i = 0; i < c.inputs.size(); ++i)
    for (std::int64_t j = 0; j < c.inputs[i].shape.numel(); ++j)
      c.inputs[i].values.push_back(static_cast<double>((j * 37 + static_cast<std::int64_t>(i)) % 11 - 5));
  if (beta == 0) c.inputs[3].values.assign(c.inputs[3].values.size(), std::numeric_limits<double>::quiet_NaN());
  c.run = [=](std::span<const Tensor> in) -> std::vector<Tensor> {
    Tensor y = narrow_result ? as_bfloat16(in[3]) : clone(in[3]);
    const auto input = [&](std::size_t i) { return narrow_inputs ? as_bfloat16(in[i]) : in[i]; };
    if (narrow_inputs && !narrow_result) y = from_host(to_host(in[3]), DType::Float32, in[3].device());
    matmul_forward(input(0), input(1), input(2), y, {transposed, transposed, beta});
    return {y};
  };
  c.oracle = [=](std::span<const HostArray> in) -> std::vector<HostArray> {
    HostArray y = product(in[0], in[1], transposed, transposed, Shape{M, N});
    for (std::size_t i = 0; i < y.v.size(); ++i) {
      y.v[i] += in[2].v[i % static_cast<std::size_t>(N)] + (beta == 0 ? 0.0 : static_cast<double>(beta) * in[3].v[i]);
      if (narrow_result) y.v[i] = static_cast<float>(bfloat16(static_cast<float>(y.v[i])));
    }
    return {y};
  };
  c.float32_bound = 0;
  c.gradient = false;
  return c;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> all;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      all.push_back(make_flags(3, 5, 7, 2, transpose_a, transpose_b));
      all.push_back(make_flags(1, 1, 1, 1, transpose_a, transpose_b));
      all.push_back(make_flags(2, 33, 31, 65, transpose_a, transpose_b));
      all.push_back(make_flags(0, 3, 4, 5, transpose_a, transpose_b));
      all.push_back(make_flags(2, 3, 0, 5, transpose_a, transpose_b));
      const Shape shared_b = transpose_b ? Shape{3, 4} : Shape{4, 3}, shared_a = transpose_a ? Shape{4, 5} : Shape{5, 4};
      all.push_back(make("shared b", transpose_a ? Shape{2, 3, 4, 5} : Shape{2, 3, 5, 4}, shared_b, transpose_a, transpose_b));
      all.push_back(make("shared a", shared_a, transpose_b ? Shape{6, 3, 4} : Shape{6, 4, 3}, transpose_a, transpose_b));
      for (const float beta : {0.0f, 1.0f, 2.0f}) {
        all.push_back(make_kernel(70, 9, 130, transpose_a, transpose_b, false, beta));
        all.push_back(make_kernel(70, 9, 130, transpose_a, true, transpose_b, beta));
        all.push_back(make_kernel(33, 31, 65, transpose_a, true, transpose_b, beta));
        all.push_back(make_kernel(5, 0, 31, transpose_a, transpose_b, transpose_b, beta));
      }
    }
  }
  all.push_back(make("matrices", Shape{1025, 31}, Shape{31, 33}, false, false));
  all.push_back(make("long sum", Shape{4099, 32}, Shape{4099, 64}, true, false));
  all.push_back(make("several tiles", Shape{513, 65}, Shape{130, 65}, false, true));
  all.push_back(make("one row", Shape{1, 1024}, Shape{3000, 1024}, false, true));
  all.push_back(make("scaled", Shape{4, 16}, Shape{16, 5}, false, false, 1024.0));
  for (OpCase c :
       {make("measured", Shape{2052, 256}, Shape{768, 256}, false, true), make("measured", Shape{2052, 768}, Shape{768, 256}, false, false),
        make("measured", Shape{2052, 768}, Shape{2052, 256}, true, false)}) {
    c.benchmark = true;
    c.oracle = nullptr;
    all.push_back(c);
  }
  return all;
}

const bool added = add_cases("matmul", cases);

}  // namespace
}  // namespace mblm::testing
