// Parameters of a model: values, gradients and the bfloat16 copy lie in flat arenas, one range per parameter, so that the
// optimizer, clipping, all-reduce and saving are loops over one array.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/random.h"
#include "engine/tensor.h"

namespace mblm {

// How a parameter starts. A number depends on (seed, name, element) only.
struct Init {
  // Writes the initial values of rows [0, rows) of `width` elements, the random stream being `key`.
  std::function<void(RandomKey key, std::span<float> values, std::int64_t width)> fill;

  static Init constant(float value);
  static Init uniform(float bound);  // in [-bound, bound)
  static Init normal();              // N(0, 1)
  Init scaled(float factor) const;
  Init with_zero_row(std::int64_t row) const;  // throws ValueError when filling fewer rows
};

// A parameter may have several names in files, as row ranges of one tensor: compute sees the tensor, files the names.
struct ParameterPart {
  std::string name;
  Shape shape;
  Init init;
};

class Parameter {
 public:
  const std::string& name() const { return parts_.front().name; }
  const std::vector<ParameterPart>& parts() const { return parts_; }
  const Shape& shape() const { return shape_; }
  std::int64_t offset() const { return offset_; }  // of the first element in the arenas

  // The value as an input of ops: gradients go to the arena. Throws Error before ParameterStore::allocate.
  const Tensor& tensor() const;
  Tensor value() const { return tensor().detach(); }
  const Tensor& gradient() const { return gradient_; }
  // The value in that element type as an input of ops: the float32 master (or float64), or the bfloat16 copy. Either has
  // its gradient in the arena, in the master's element type. Throws DTypeError when there is no such copy.
  Tensor as(DType dtype) const;
  // The value as a factor of matrix products: the bfloat16 copy where there is one.
  const Tensor& factor() const { return bfloat16_.defined() ? bfloat16_ : tensor(); }

 private:
  friend class ParameterStore;
  std::vector<ParameterPart> parts_;
  Shape shape_;
  std::int64_t offset_ = 0;
  Tensor tensor_, gradient_, bfloat16_;
};

// A tensor that a model computes with and does not train.
class Constant {
 public:
  const std::string& name() const { return name_; }  // in files; empty: in none
  // On the CPU before ParameterStore::allocate, on the parameters' device afterwards.
  const Tensor& tensor() const { return tensor_; }

 private:
  friend class ParameterStore;
  std::string name_;
  Tensor tensor_;
};

// A named tensor of a file: a parameter's part or a constant that checkpoints carry.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

class ParameterStore {
 public:
  // Declares a parameter; call before allocate(). Throws ValueError for a name that is taken.
  Parameter& add(std::string name, const Shape& shape, Init init);
  // Parts stacked along the first axis; all sizes but the first must agree.
  Parameter& add_merged(std::vector<ParameterPart> parts);
  // A constant, in checkpoints under this name unless it is empty; `value` is on the CPU. Call before allocate(). Throws
  // ValueError for a name that is taken.
  const Constant& add_constant(std::string name, Tensor value);

  // Lays out the arenas. `dtype` is float32, or float64 to test with; `bfloat16_copy` adds the second arena.
  // Throws MemoryError when there is not enough memory. Call once.
  void allocate(Device device, DType dtype = DType::Float32, bool bfloat16_copy = false);
  // Writes the initial values, the bfloat16 copy included.
  void initialize(std::uint64_t seed);

  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  std::int64_t count() const;  // trained numbers, without the arenas' padding
  // The arenas, (elements); the padding between parameters is zero and stays zero.
  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& bfloat16_values() const { return bfloat16_; }
  void zero_gradients();
  // The gradients and, behind them, `extra_sums` elements, as one array: one all-reduce adds up both over the workers.
  static constexpr std::int64_t extra_sums = 64;
  const Tensor& reduced() const { return reduced_; }
  // The range of each gradient that named_gradients() lists, in its order: (S, 2) int64, begin and end in the arena.
  const Tensor& segments() const { return segments_; }

  // Grows whenever the values change: copies made from them are stale.
  std::uint64_t version() const { return version_; }
  // Whoever writes values calls one of these: the first rounds them to the bfloat16 copy, the second is for who wrote it too.
  void values_changed();
  void values_and_copy_changed() { ++version_; }

  // Views under the names of files, in order of declaration: values (with constants), or gradients.
  std::vector<NamedTensor> named_values() const;
  std::vector<NamedTensor> named_gradients() const;
  const std::vector<std::unique_ptr<Constant>>& constants() const { return constants_; }

 private:
  void check_name(const std::string& name) const;
  std::vector<NamedTensor> named(const std::function<Tensor(const Parameter&)>& view) const;

  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<std::unique_ptr<Constant>> constants_;
  Tensor values_, gradients_, bfloat16_, reduced_, segments_;
  std::uint64_t version_ = 0;
};

}  // namespace mblm
