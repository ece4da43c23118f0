#include "tests/op_case.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace mblm::testing {

std::vector<OpCases>& all_op_cases() {
  static std::vector<OpCases> all;
  return all;
}

bool add_cases(const char* op, std::vector<OpCase> (*cases)()) {
  auto& all = all_op_cases();
  const auto place = std::find_if(all.begin(), all.end(), [&](const OpCases& other) { return std::string_view(op) < other.op; });
  all.insert(place, {op, cases});
  return true;
}

OpCase with_odd_views(const OpCase& c) {
  OpCase odd = c;
  odd.name += ", odd views";
  std::vector<Shape> shapes;
  for (CaseInput& input : odd.inputs) {
    shapes.push_back(input.shape);
    input.shape = Shape{1 + input.shape.numel()};
    if (!input.values.empty()) input.values.insert(input.values.begin(), 0.0);
  }
  odd.run = [run = c.run, shapes](std::span<const Tensor> in) {
    std::vector<Tensor> views;
    for (std::size_t i = 0; i < in.size(); ++i) views.push_back(in[i].slice(1, in[i].numel()).reshape(shapes[i]));
    return run(views);
  };
  if (c.oracle)
    odd.oracle = [oracle = c.oracle, shapes](std::span<const HostArray> in) {
      std::vector<HostArray> views;
      for (std::size_t i = 0; i < in.size(); ++i) {
        views.emplace_back(shapes[i]);
        std::copy(in[i].v.begin() + 1, in[i].v.end(), views.back().v.begin());
      }
      return oracle(views);
    };
  return odd;
}

std::vector<HostArray> host_inputs(const OpCase& c) {
  std::vector<HostArray> all;
  std::mt19937_64 random(std::hash<std::string>{}(c.name));
  std::normal_distribution<double> normal;
  for (const CaseInput& input : c.inputs) {
    HostArray x(input.shape);
    if (!input.values.empty()) {
      x.v = input.values;
    } else {
      for (double& v : x.v)
        v = input.ids_below > 0 ? static_cast<double>(random() % static_cast<std::uint64_t>(input.ids_below))
                                : static_cast<float>(normal(random) * input.scale + input.offset);  // the same value in float32 and float64
    }
    all.push_back(std::move(x));
  }
  return all;
}

Tensor from_host(const HostArray& x, DType dtype, Device device) {
  return visit_dtype(dtype, [&]<class T>() {
    std::vector<T> values;
    for (const double v : x.v) values.push_back(element_cast<T>(v));
    return from_values<T>(x.shape, values, device);
  });
}

HostArray to_host(const Tensor& x) {
  HostArray host(x.shape());
  host.v = x.to_vector_as<double>();
  return host;
}

std::vector<Tensor> device_inputs(const OpCase& c, DType dtype, Device device) {
  std::vector<Tensor> all;
  const std::vector<HostArray> host = host_inputs(c);
  for (std::size_t i = 0; i < host.size(); ++i) {
    const CaseInput& input = c.inputs[i];
    all.push_back(from_host(host[i], input.ids_below > 0 ? DType::Int64 : input.wide && dtype == DType::BFloat16 ? DType::Float32 : dtype, device));
  }
  return all;
}

std::vector<Tensor> to_float64(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> wide;
  for (const Tensor& x : inputs) wide.push_back(is_floating(x.dtype()) ? from_host(to_host(x), DType::Float64) : to_device(x, Device{}));
  return wide;
}

double relative_error(const HostArray& a, const HostArray& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.v.size(); ++i) {
    difference += (a.v[i] - b.v[i]) * (a.v[i] - b.v[i]);
    norm += b.v[i] * b.v[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace mblm::testing
