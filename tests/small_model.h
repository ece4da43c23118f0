// Small models that can run many times in a test, with 40 ids; id 39 is padding.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "mblm/checkpoint.h"
#include "tests/op_case.h"

namespace mblm::testing {

inline ModelConfig config_of(const std::string& lens, const std::string& dims, const std::string& layers, const std::string& blocks, const std::string& chunks = "null") {
  return parse_model_config("num_tokens: 40\npad_token_id: 39\nhidden_dims: " + dims + "\nseq_lens: " + lens + "\nnum_layers: " + layers +
                                "\ntrain_checkpoint_chunks: " + chunks + "\nblock: " + blocks + "\n",
                            "test", BlockRegistry());
}

inline std::unique_ptr<Model> make_model(const ModelConfig& config, DType dtype = DType::Float32, std::uint64_t seed = 1) {
  auto model = std::make_unique<Model>(config);
  model->allocate({}, dtype);
  model->initialize(seed);
  return model;
}

inline Tensor random_ids(std::int64_t batch, std::int64_t length, std::uint64_t seed = 7) {
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::int64_t& id : ids) id = static_cast<std::int64_t>(random() % 39);
  return from_values<std::int64_t>(Shape{batch, length}, ids);
}

}  // namespace mblm::testing
