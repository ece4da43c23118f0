#include "mblm/model_hash.h"

#include "engine/io/hash.h"

namespace mblm {

std::string model_hash(const Model& model) {
  Hash hash;
  hash.add_sized(to_yaml(model.config()));
  for (const NamedTensor& named : model.parameters().named_values()) {
    hash.add_sized(named.name);
    hash.add_sized(concat_text(named.tensor.dtype(), named.tensor.shape()));
    const Tensor values = to_device(named.tensor, Device{});
    hash.add(values.host_bytes().data(), values.bytes());
  }
  return hash.text();
}

}  // namespace mblm
