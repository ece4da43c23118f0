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
                                : static_cast<float>(normal(random) * input.scale + input.offset);  // the same in every floating type
    }
    all.push_back(std::move(x));
  }
  return all;
}

Tensor from_host(const HostArray& x, DType dtype, Device device) {
  switch (dtype) {
    case DType::Float32: return from_values<float>(x.shape, std::vector<float>(x.v.begin(), x.v.end()), device);
    case DType::Int64: return from_values<std::int64_t>(x.shape, std::vector<std::int64_t>(x.v.begin(), x.v.end()), device);
    case DType::UInt8: return from_values<std::uint8_t>(x.shape, std::vector<std::uint8_t>(x.v.begin(), x.v.end()), device);
    case DType::Float64: return from_values<double>(x.shape, x.v, device);
    default: throw DTypeError(concat_text("from_host: ", dtype));
  }
}

HostArray to_host(const Tensor& x) {
  HostArray host(x.shape());
  const auto read = [&]<class T>() {
    const std::vector<T> values = x.to_vector<T>();
    for (std::size_t i = 0; i < values.size(); ++i) host.v[i] = static_cast<double>(values[i]);
  };
  switch (x.dtype()) {
    case DType::Float32: read.operator()<float>(); break;
    case DType::Float64: read.operator()<double>(); break;
    case DType::Int64: read.operator()<std::int64_t>(); break;
    case DType::Int32: read.operator()<std::int32_t>(); break;
    case DType::UInt8: read.operator()<std::uint8_t>(); break;
    case DType::BFloat16: {
      const std::vector<bfloat16> values = x.to_vector<bfloat16>();
      for (std::size_t i = 0; i < values.size(); ++i) host.v[i] = static_cast<float>(values[i]);
    }
  }
  return host;
}

std::vector<Tensor> device_inputs(const OpCase& c, DType dtype, Device device) {
  std::vector<Tensor> all;
  const std::vector<HostArray> host = host_inputs(c);
  for (std::size_t i = 0; i < host.size(); ++i) all.push_back(from_host(host[i], c.inputs[i].ids_below > 0 ? DType::Int64 : dtype, device));
  return all;
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
