// One list of cases per op serves four uses: oracle, gradient, thread and backend parity, benchmark.
#pragma once

#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/autograd.h"
#include "engine/tensor.h"

namespace mblm::testing {

// A tensor on the host, in float64.
struct HostArray {
  Shape shape;
  std::vector<double> v;
  explicit HostArray(const Shape& s = {}) : shape(s), v(static_cast<std::size_t>(s.numel()), 0.0) {}
};

struct CaseInput {
  Shape shape;
  double scale = 1.0;                  // values are random: N(0, scale^2) + offset
  double offset = 0.0;
  std::int64_t ids_below = 0;          // > 0: int64 values, uniform in [0, ids_below)
  bool gradient = true;                // floating inputs: checks the gradient
  std::vector<double> values = {};     // not empty: the values of the input, in place of random ones
  bool wide = false;                   // stays float32 when the other inputs are bfloat16 (spec of the op: norm weights, dt, ...)
};
inline CaseInput ids(const Shape& shape, std::int64_t below) { return {shape, 0, 0, below, false, {}}; }
inline CaseInput constant(const Shape& shape, double scale = 1.0) { return {shape, scale, 0, 0, false, {}}; }

struct OpCase {
  std::string name = {};           // describes the case: "rows=33 D=1023"; also the seed of its random inputs
  std::vector<CaseInput> inputs;   // one per input tensor of the op
  // Runs the op; the outputs are floating. Works for float32, float64 and any device.
  std::function<std::vector<Tensor>(std::span<const Tensor> inputs)> run = {};
  // The formula in plain loops. Empty if the case is only measured.
  std::function<std::vector<HostArray>(std::span<const HostArray> inputs)> oracle = {};
  double float32_bound = 2e-6;     // ||ours - oracle|| / ||oracle|| in float32, per output
  double bfloat16_bound = 6e-3;    // the same on a GPU for bfloat16 inputs and outputs; twice that for gradients
  double gradient_size = 0;        // > 0: size of the terms of a gradient that cancels; the bound on a GPU is relative to it
  bool gradient = true;            // checks the gradients
  bool differences = true;         // also element by element, by central differences in float64: small shapes only
  bool large = false;              // takes too long on the emulated GPU
  bool benchmark = false;          // measured by the benchmark programs
  bool gpu_benchmark = false;      // measured on a GPU and not tested: too large for the tests
  double flops = 0;                // floating-point operations of one forward pass, for the benchmarks
};

struct OpCases {
  const char* op;
  std::vector<OpCase> (*cases)();
};
// All lists in the program, ordered by the name of the op. A file tests/OP.cpp adds its list:
// `const bool added = add_cases("softmax", cases);`
std::vector<OpCases>& all_op_cases();
bool add_cases(const char* op, std::vector<OpCase> (*cases)());

// The same case on views that start one element after the start of their memory: kernels then cannot access several elements at once.
OpCase with_odd_views(const OpCase& c);

// The inputs of a case on the host, or in an element type on a device. They have the same values each time.
std::vector<HostArray> host_inputs(const OpCase& c);
// (wide inputs are float32 when dtype is bfloat16, and ids are int64)
std::vector<Tensor> device_inputs(const OpCase& c, DType dtype, Device device = {});
// The same inputs on the CPU, floating ones in float64.
std::vector<Tensor> to_float64(const std::vector<Tensor>& inputs);
Tensor from_host(const HostArray& x, DType dtype, Device device = {});
HostArray to_host(const Tensor& x);
// ||a - b|| / ||b||; ||a|| if b is zero.
double relative_error(const HostArray& a, const HostArray& b);

}  // namespace mblm::testing
