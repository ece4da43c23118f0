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

// A tensor on the host, in double.
struct HostArray {
  Shape shape;
  std::vector<double> v;
  explicit HostArray(const Shape& s = {}) : shape(s), v(static_cast<std::size_t>(s.numel()), 0.0) {}
};

struct CaseInput {
  Shape shape;
  double scale = 1.0;                  // N(0, scale^2) + offset
  double offset = 0.0;
  std::int64_t ids_below = 0;          // > 0: int64, uniform in [0, ids_below)
  bool gradient = true;                // floating inputs: whether it is differentiated
  std::vector<double> values = {};     // given: these instead
};
inline CaseInput ids(const Shape& shape, std::int64_t below) { return {shape, 0, 0, below, false, {}}; }
inline CaseInput constant(const Shape& shape, double scale = 1.0) { return {shape, scale, 0, 0, false, {}}; }

struct OpCase {
  std::string name = {};           // the shape in words: "rows=33 D=1023"
  std::vector<CaseInput> inputs;   // one per tensor that the op takes
  // The op: outputs, all floating. Works for float32, float64 and any device.
  std::function<std::vector<Tensor>(std::span<const Tensor> inputs)> run = {};
  // The formula in plain loops. Empty where a case is only measured.
  std::function<std::vector<HostArray>(std::span<const HostArray> inputs)> oracle = {};
  double float32_bound = 2e-6;     // ||ours - oracle|| / ||oracle|| in float32, per output
  bool gradient = true;            // central differences in float64 (small shapes only)
  bool benchmark = false;          // measured by the benchmark programs
  double flops = 0;                // of one forward, for the benchmarks
};

struct OpCases {
  const char* op;
  std::vector<OpCase> (*cases)();
};
// Every list in the program, by name of the op; a file tests/OP.cpp adds its own: `const bool added = add_cases("softmax", cases);`
std::vector<OpCases>& all_op_cases();
bool add_cases(const char* op, std::vector<OpCase> (*cases)());

// The inputs of a case in an element type and on a device, the same numbers each time.
std::vector<HostArray> host_inputs(const OpCase& c);
std::vector<Tensor> device_inputs(const OpCase& c, DType dtype, Device device = {});
Tensor from_host(const HostArray& x, DType dtype, Device device = {});
HostArray to_host(const Tensor& x);
// ||a - b|| / ||b||; the absolute norm of a where b is zero.
double relative_error(const HostArray& a, const HostArray& b);

}  // namespace mblm::testing
