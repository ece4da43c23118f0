// The hash of a model changes with its parameters and its config, and with nothing else.
#include <doctest/doctest.h>

#include "mblm/model_hash.h"
#include "tests/small_model.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::string lens = "[8, 4]", dims = "[16, 16]", layers = "[1, 1]";
const std::string blocks =
    "[{block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}, "
    "{block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}]";

}  // namespace

TEST_CASE("model hash: the same for a saved and loaded model and for both precisions") {
  const auto model = make_model(config_of(lens, dims, layers, blocks));
  const std::string hash = model_hash(*model);
  CHECK(hash.size() == 32);
  CHECK(model_hash(*model) == hash);
  const TemporaryFolder folder;
  save_model(*model, folder / "m.safetensors");
  CHECK(model_hash(*load_model(folder / "m.safetensors", BlockRegistry())) == hash);
  CHECK(model_hash(*load_model(folder / "m.safetensors", BlockRegistry(), {}, DType::BFloat16)) == hash);
}

TEST_CASE("model hash: one bit of one value of any parameter, and the config, change it") {
  const auto model = make_model(config_of(lens, dims, layers, blocks));
  const std::string hash = model_hash(*model);
  for (const auto& parameter : model->parameters().parameters()) {
    CAPTURE(parameter->name());
    Tensor values = parameter->value();
    std::byte& last = values.host_bytes().back();
    last ^= std::byte{1};
    CHECK(model_hash(*model) != hash);
    last ^= std::byte{1};
  }
  CHECK(model_hash(*model) == hash);
  CHECK(model_hash(*make_model(config_of(lens, dims, layers, blocks), DType::Float32, 2)) != hash);
  // The same parameters in another order of computation.
  const auto shorter = make_model(config_of("[8, 4]", dims, layers, blocks)), longer = make_model(config_of("[9, 4]", dims, layers, blocks));
  CHECK(model_hash(*shorter) == hash);
  CHECK(model_hash(*longer) != hash);
}

}  // namespace mblm::testing
