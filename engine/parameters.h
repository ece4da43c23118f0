// Parameters of a model. Values, gradients and the bfloat16 copy are flat arenas with one range per parameter, so that the
// optimizer, clipping, all-reduce and saving are loops over one array.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/random.h"
#include "engine/random_sites.h"
#include "engine/tensor.h"

namespace mblm {

// The initial values of a parameter. Each value depends only on (seed, name, element).
struct Init {
  // Writes the initial values, as rows of `width` elements, from the random stream `key`.
  std::function<void(RandomKey key, std::span<float> values, std::int64_t width)> fill;

  static Init constant(float value);
  static Init uniform(float bound);  // in [-bound, bound)
  static Init normal();              // N(0, 1)
  Init scaled(float factor) const;
  Init with_zero_row(std::int64_t row) const;  // filling throws ValueError when there is no such row
};

// Whether the parameters of a model get gradients. Without them nothing is recorded, and the model takes less memory: for inference.
enum class Gradients { Yes, No };

// A parameter may have several names in files, each a row range of one tensor: ops use the tensor, files use the names.
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

  // The value as an input of ops; its gradient is added to the arena. Throws Error before ParameterStore::allocate.
  const Tensor& tensor() const;
  Tensor value() const { return tensor().detach(); }
  const Tensor& gradient() const { return gradient_; }
  // The value in the given element type as an input of ops: the float32 (or float64) master or the bfloat16 copy. The
  // gradient of both is added to the arena, in the master's element type. Throws DTypeError when there is no such copy.
  Tensor as(DType dtype) const;
  // The value as a factor of matrix products: the bfloat16 copy if there is one, else the master.
  const Tensor& factor() const { return bfloat16_.defined() ? bfloat16_ : tensor(); }
  // The dtype of activations beside this parameter, that of the factors: bfloat16 if there is a bfloat16 copy.
  DType activation_dtype() const { return factor().dtype(); }

 private:
  friend class ParameterStore;
  std::vector<ParameterPart> parts_;
  Shape shape_;
  std::int64_t offset_ = 0;
  Tensor tensor_, gradient_, bfloat16_;
};

// A tensor that a model uses but does not train. Files store a float64 constant as float32.
class Constant {
 public:
  const std::string& name() const { return name_; }  // in files; empty: not stored
  // On the CPU before ParameterStore::allocate, on the parameters' device afterwards.
  const Tensor& tensor() const { return tensor_; }

 private:
  friend class ParameterStore;
  std::string name_;
  Tensor tensor_;
};

// A named tensor of a file: a part of a parameter, or a constant that checkpoints store.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

class ParameterStore {
 public:
  // Each parameter starts at a multiple of so many elements of the arenas, for 16-byte vectors in any element type.
  static constexpr std::int64_t alignment = 64;

  // Declares a parameter; call before allocate(). Throws ValueError for a duplicate name.
  Parameter& add(std::string name, const Shape& shape, Init init);
  // Declares a parameter of parts stacked along the first axis; all sizes but the first must agree.
  Parameter& add_merged(std::vector<ParameterPart> parts);
  // Declares a constant; `value` is on the CPU. Checkpoints store it under `name` unless the name is empty. Call before
  // allocate(). Throws ValueError for a duplicate name.
  const Constant& add_constant(std::string name, Tensor value);
  // Sets a constant to the elements of a floating tensor on the CPU. Throws ValueError for an unknown name, ShapeError.
  void set_constant(const std::string& name, const Tensor& value);
  // The site of a layer's random numbers, different from the sites of all other names of this model. The initial values of a parameter
  // are drawn at the site of its name.
  std::uint32_t random_site(const std::string& name) { return sites_.add(name); }

  // Allocates the arenas. `dtype` is float32, or float64 for tests; `bfloat16_copy` adds the bfloat16 arena.
  // Throws MemoryError when there is not enough memory. Call once.
  void allocate(Device device, DType dtype = DType::Float32, bool bfloat16_copy = false, Gradients gradients = Gradients::Yes);
  // Writes the initial values, including the bfloat16 copy.
  void initialize(std::uint64_t seed);

  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  std::int64_t count() const;  // trained values, without padding
  // The arenas, shape (elements). The padding between parameters is always zero. Without gradients theirs is undefined, as are reduced(),
  // named_gradients() and Parameter::gradient().
  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& bfloat16_values() const { return bfloat16_; }
  // The bfloat16 arena widened to float32, for training on a processor without bfloat16 instructions; otherwise undefined. Products find
  // it by Tensor::float32_copy.
  const Tensor& widened_values() const { return widened_; }
  // The dtype of activations: bfloat16 if there is a bfloat16 arena, else that of the values.
  DType activation_dtype() const { return bfloat16_.defined() ? DType::BFloat16 : values_.dtype(); }
  void zero_gradients();
  // The gradients followed by `extra_sums` elements, as one array: one all-reduce sums both over the workers.
  static constexpr std::int64_t extra_sums = 64;
  const Tensor& reduced() const { return reduced_; }
  // The arena range of each gradient in the order of named_gradients(): (S, 2) int64, begin and end.
  const Tensor& segments() const { return segments_; }

  // Increases whenever the values change, which makes copies of them stale.
  std::uint64_t version() const { return version_; }
  // Code that writes values calls one of these: the first rounds them to the bfloat16 copy, the second assumes that the copy
  // was written too.
  void values_changed();
  void values_and_copy_changed();

  // Views with their names in files, in order of declaration: values (with named constants, float64 ones as float32 copies), or gradients.
  std::vector<NamedTensor> named_values() const;
  std::vector<NamedTensor> named_gradients() const;
  const std::vector<std::unique_ptr<Constant>>& constants() const { return constants_; }

 private:
  void check_name(const std::string& name) const;
  std::vector<NamedTensor> named(const std::function<Tensor(const Parameter&)>& view) const;

  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<std::unique_ptr<Constant>> constants_;
  RandomSites sites_;
  Tensor values_, gradients_, bfloat16_, widened_, reduced_, segments_;
  std::uint64_t version_ = 0;
};

}  // namespace mblm
