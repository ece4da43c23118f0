// Checkpoints of the Python package: both layouts, reading and writing, and models that start from them.
#include "mblm/package_checkpoint.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "engine/io/torch_file.h"
#include "mblm/checkpoint.h"
#include "tests/error_text.h"
#include "tests/temporary_folder.h"
#include "tests/torch_bytes.h"

namespace mblm::testing {
namespace {

const std::filesystem::path golden = std::filesystem::path(MBLM_GOLDEN_FOLDER) / "cases";
const std::vector<std::string> packages{"t3d", "m2_2d", "m1_2d"};

ModelConfig config_of(const std::string& name) { return read_model_config(golden / name / "model.yaml", BlockRegistry()); }

std::vector<float> logits_of(const std::string& name, const std::filesystem::path& checkpoint) {
  const std::unique_ptr<Model> model = load_model({open_checkpoint(checkpoint), config_of(name)});
  const NoGradScope no_grad;
  return model->logits(SafetensorsFile(golden / name / "case.safetensors").tensor("input_ids")).to_vector<float>();
}

std::vector<std::string> names_of(const std::filesystem::path& checkpoint) {
  std::vector<std::string> names;
  for (const TorchTensor& tensor : TorchFile(checkpoint).tensors(package_model_key)) names.push_back(tensor.name);
  return names;
}

constexpr const char* tiny =
    "num_tokens: 9\npad_token_id: 8\nhidden_dims: [4, 4]\nseq_lens: [2, 2]\nnum_layers: [1, 1]\ntrain_checkpoint_chunks: null\n"
    "block: {attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}\n";

std::unique_ptr<Model> tiny_model(int num_tokens, std::uint64_t seed) {
  ModelConfig config = parse_model_config(tiny, "tiny", BlockRegistry());
  config.num_tokens = num_tokens;
  auto model = std::make_unique<Model>(config);
  model->allocate();
  model->initialize(seed);
  return model;
}

std::vector<float> values_of(const Model& model, const std::string& name) {
  for (const NamedTensor& named : model.parameters().named_values())
    if (named.name == name) return named.tensor.to_vector<float>();
  FAIL("no parameter " << name);
  return {};
}

}  // namespace

TEST_CASE("parameter names of the two layouts") {
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"token_embs_rev.0.embedding.weight", "token_embs_rev.0.weight"},  {"token_embs_rev.1.embedding.weight", "token_embs_rev.1.0.weight"},
      {"token_embs_rev.1._post.1.bias", "token_embs_rev.1.2.bias"},      {"token_embs_rev.12._post.2.weight", "token_embs_rev.12.3.weight"},
      {"token_embs_rev.2._post.3.weight", "token_embs_rev.2.4.weight"}};
  for (const auto& [current, older] : pairs) {
    CHECK(current_name(older) == current);
    CHECK(older_name(current) == older);
    CHECK(current_name(current) == current);
    CHECK(older_name(older) == older);
  }
  for (const char* name : {"to_logits.weight", "stage_models.0.layers.0.1.4.bias", "token_embs_rev", "token_embs_rev.", "token_embs_rev.1", "",
                           "token_embs_rev.1.1.weight", "x.token_embs_rev.0.weight"}) {
    CHECK(current_name(name) == name);
    CHECK(older_name(name) == name);
  }
}

TEST_CASE("checkpoints of the package give the same model in either layout") {
  for (const std::string& name : packages) {
    CAPTURE(name);
    const std::vector<float> expected = logits_of(name, golden / name / "weights.safetensors");
    CHECK(logits_of(name, golden / name / "weights_0.4.1.pth") == expected);
    CHECK(logits_of(name, golden / name / "weights_0.4.2.pth") == expected);
    CHECK(open_checkpoint(golden / name / "weights_0.4.1.pth").loss == 1.25);
  }
}

TEST_CASE("checkpoints written for the package have its names in its order") {
  const TemporaryFolder folder;
  for (const std::string& name : packages) {
    for (const PackageLayout layout : {PackageLayout::V041, PackageLayout::V042}) {
      CAPTURE(name);
      const std::filesystem::path theirs = golden / name / (layout == PackageLayout::V041 ? "weights_0.4.1.pth" : "weights_0.4.2.pth");
      const std::unique_ptr<Model> model = load_model({open_checkpoint(theirs), config_of(name)});
      write_package_checkpoint(folder / "ours.pth", model->parameters().named_values(), 2.5, layout);
      CHECK(names_of(folder / "ours.pth") == names_of(theirs));
      CHECK(open_checkpoint(folder / "ours.pth").loss == 2.5);
      CHECK(logits_of(name, folder / "ours.pth") == logits_of(name, theirs));
    }
  }
}

TEST_CASE("a checkpoint without a loss stores an infinite loss") {
  const TemporaryFolder folder;
  write_package_checkpoint(folder / "x.pth", tiny_model(9, 1)->parameters().named_values());
  CHECK(TorchFile(folder / "x.pth").number(package_loss_key) == std::numeric_limits<double>::infinity());
  CHECK_FALSE(open_checkpoint(folder / "x.pth").loss);
}

TEST_CASE("prefixes of names are replaced on request") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> model = tiny_model(9, 1);
  std::vector<NamedTensor> tensors = model->parameters().named_values();
  for (NamedTensor& named : tensors)
    if (named.name.starts_with("to_logits.")) named.name.replace(0, 9, "head");
  write_package_checkpoint(folder / "x.pth", tensors, 1, PackageLayout::V041);
  const std::unique_ptr<Model> other = tiny_model(9, 2);
  CHECK(error_text<FileError>([&] { load_parameters(*other, open_checkpoint(folder / "x.pth")); })
            .ends_with("the file does not contain this tensor of the model"));
  load_parameters(*other, open_checkpoint(folder / "x.pth", {{"head", "to_logits"}, {"head.w", "never"}}));
  CHECK(values_of(*other, "to_logits.weight") == values_of(*model, "to_logits.weight"));
  CHECK(error_text<FileError>([&] { open_checkpoint(folder / "x.pth", {{"head.weight", "x"}, {"head.bias", "x"}}); }) ==
        (folder / "x.pth").string() + ": duplicate parameter \"x\", stored under two names");
}

TEST_CASE("a smaller vocabulary initializes the start of a larger one on request") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> small = tiny_model(9, 1), large = tiny_model(12, 2), fresh = tiny_model(12, 2);
  write_package_checkpoint(folder / "x.pth", small->parameters().named_values());
  const CheckpointFile file = open_checkpoint(folder / "x.pth");
  CHECK(error_text<FileError>([&] { load_parameters(*large, file); }).find(": expected shape (12, 4), got (9, 4)") != std::string::npos);
  load_parameters(*large, file, {.extend_embeddings = true});
  for (const NamedTensor& named : large->parameters().named_values()) {
    CAPTURE(named.name);
    std::vector<float> expected = values_of(*small, named.name);
    const std::vector<float> rest = values_of(*fresh, named.name);
    expected.insert(expected.end(), rest.begin() + static_cast<std::ptrdiff_t>(expected.size()), rest.end());
    CHECK(named.tensor.to_vector<float>() == expected);
  }
  const auto shrink = [&](const std::vector<NamedTensor>& tensors) {
    write_package_checkpoint(folder / "y.pth", tensors);
    return error_text<FileError>([&] { load_parameters(*small, open_checkpoint(folder / "y.pth"), {.extend_embeddings = true}); });
  };
  CHECK(shrink(large->parameters().named_values()).ends_with(": expected shape (9, 4), got (12, 4)"));
  std::vector<NamedTensor> narrow = small->parameters().named_values();
  for (NamedTensor& named : narrow)
    if (named.name == "to_logits.weight") named.tensor = zeros(Shape{9, 3}, DType::Float32);
  CHECK(shrink(narrow).ends_with("to_logits.weight: expected shape (9, 4), got (9, 3)"));
}

TEST_CASE("files with other endings are no checkpoints") {
  CHECK(error_text<FileError>([] { open_checkpoint("model.bin"); }) == "model.bin: expected a .safetensors or .pth checkpoint");
}

TEST_CASE("checkpoints as other programs save them") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> model = tiny_model(9, 1);
  const std::vector<NamedTensor> tensors = model->parameters().named_values();
  const auto check = [&](const std::vector<TorchEntry>& entries) {
    write_torch_file(folder / "x.pth", entries);
    const std::unique_ptr<Model> other = tiny_model(9, 2);
    load_parameters(*other, folder / "x.pth");
    for (const NamedTensor& named : tensors) CHECK(values_of(*other, named.name) == named.tensor.to_vector<float>());
  };
  const auto prefixed = [&](const std::string& prefix) {
    std::vector<NamedTensor> all = tensors;
    for (NamedTensor& named : all) named.name = prefix + named.name;
    return all;
  };
  for (const char* key : {"MODEL", "state_dict", "model_state_dict", "model"}) check({{"epoch", 3.0}, {key, tensors}, {"loss", 1.0}});
  check({{"state_dict", std::vector<NamedTensor>{}}, {"model_state_dict", tensors}});
  for (const char* prefix : {"module.", "_orig_mod.", "model.", "_orig_mod.module.", "net.mblm."}) check({{"state_dict", prefixed(prefix)}});
  std::vector<NamedTensor> averaged = prefixed("module.");
  averaged.insert(averaged.begin(), {"n_averaged", from_values<std::int64_t>(Shape{}, {7})});
  check({{"state_dict", averaged}});
  for (const char* name : {"x.pt", "x.ckpt"}) {
    write_torch_file(folder / name, {{"state_dict", tensors}});
    CHECK(open_checkpoint(folder / name).tensors.size() == tensors.size());
  }
  for (const char* prefix : {"", "module."}) {
    write_safetensors(folder / "x.safetensors", prefixed(prefix));
    const std::unique_ptr<Model> other = tiny_model(9, 2);
    load_parameters(*other, folder / "x.safetensors");
    CHECK(values_of(*other, "to_logits.weight") == values_of(*model, "to_logits.weight"));
  }
  write_torch_file(folder / "x.pth", {{"epoch", 3.0}, {"lr", 1.0}});
  CHECK(error_text<FileError>([&] { open_checkpoint(folder / "x.pth"); }) ==
        (folder / "x.pth").string() + ": expected tensors at the top, or a dict of tensors under \"MODEL\", \"state_dict\", \"model_state_dict\" or \"model\", "
                                      "found none of them, the first key is \"epoch\"");
}

TEST_CASE("the state dict itself, saved without a dict around it") {
  const TemporaryFolder folder;
  const TensorBytes tensor{};
  write_file(folder / "x.pth", torch_bytes(pickle_file(pickle_global("collections", "OrderedDict") + ")R(" + pickle_text("module.a") + tensor.pickle() + pickle_text("step") + "K\5" +
                                                       pickle_text("module.b") + tensor.pickle() + "u}" + pickle_text("_metadata") + "Nsb"), {std::string(16, '\0')}));
  const CheckpointFile file = open_checkpoint(folder / "x.pth");
  CHECK(file.tensors.size() == 2);
  CHECK(file.tensors.count("a") == 1);
  CHECK(file.tensors.at("b").shape == Shape{2, 2});
}

TEST_CASE("wrong names show the nearest ones") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> model = tiny_model(9, 1);
  const auto error_with_name = [&](const std::string& name) {
    std::vector<NamedTensor> tensors = model->parameters().named_values();
    for (NamedTensor& named : tensors)
      if (named.name == "to_logits.weight") named.name = name;
    write_safetensors(folder / "x.safetensors", tensors);
    return error_text<FileError>([&] { load_parameters(*model, folder / "x.safetensors"); });
  };
  const std::string start = (folder / "x.safetensors").string() + ": to_logits.weight: the file does not contain this tensor of the model";
  CHECK(error_with_name("ema.to_logits.weight") == start + ", the nearest name in the file is \"ema.to_logits.weight\"");
  CHECK(error_with_name("to_logit.weight") == start + ", the nearest name in the file is \"to_logit.weight\"");
  CHECK(error_with_name("q") == start);
  std::vector<NamedTensor> more = model->parameters().named_values();
  more.push_back({"to_logits.weights", zeros(Shape{1}, DType::Float32)});
  write_safetensors(folder / "x.safetensors", more);
  CHECK(error_text<FileError>([&] { load_parameters(*model, folder / "x.safetensors"); }) ==
        (folder / "x.safetensors").string() + ": \"to_logits.weights\": the model has no such parameter, the nearest name in the model is \"to_logits.weight\"");
}

TEST_CASE("weights of the other Mamba are recognized") {
  const TemporaryFolder folder;
  const auto model_of = [](const std::string& type) {
    auto model = std::make_unique<Model>(parse_model_config(concat_text("num_tokens: 9\npad_token_id: 8\nhidden_dims: [4, 8]\nseq_lens: [2, 2]\nnum_layers: [1, 1]\n"
        "train_checkpoint_chunks: null\nblock:\n  - {attn_head_dims: 2, attn_num_heads: 2, attn_use_rot_embs: true}\n"
        "  - {d_state: 4, d_conv: 2, expand: 2, headdim: 4", type, "}\n"), "c", BlockRegistry()));
    model->allocate();
    return model;
  };
  const std::unique_ptr<Model> first = model_of(", block_type: mamba1"), second = model_of("");
  write_package_checkpoint(folder / "1.pth", first->parameters().named_values());
  write_package_checkpoint(folder / "2.pth", second->parameters().named_values());
  CHECK(error_text<FileError>([&] { load_parameters(*second, folder / "1.pth"); }) ==
        (folder / "1.pth").string() + ": stage 1: these are Mamba-1 weights, set block_type: mamba1 in the config's block of the stage");
  CHECK(error_text<FileError>([&] { load_parameters(*first, folder / "2.pth"); }) ==
        (folder / "2.pth").string() + ": stage 1: these are Mamba-2 weights, set block_type: mamba2 in the config's block of the stage");
  load_parameters(*first, folder / "1.pth");
  load_parameters(*second, folder / "2.pth");
}

TEST_CASE("rotary frequencies are those of the file, and are written back") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> model = tiny_model(9, 1), other = tiny_model(9, 2);
  const std::string name = "stage_models.0.rotary_emb.inv_freq";
  std::vector<NamedTensor> tensors = model->parameters().named_values();
  const auto logits = [](const Model& m) {
    const NoGradScope no_grad;
    return m.logits(from_values<std::int64_t>(Shape{1, 4}, {1, 2, 3, 4})).to_vector<float>();
  };
  const std::vector<float> before = logits(*model);
  write_safetensors(folder / "same.safetensors", tensors);
  load_parameters(*other, folder / "same.safetensors");
  CHECK(logits(*other) == before);
  for (NamedTensor& named : tensors)
    if (named.name == name) named.tensor = from_values<float>(Shape{1}, {0.7f});
  write_package_checkpoint(folder / "x.pth", tensors);
  load_parameters(*model, folder / "x.pth");
  CHECK(values_of(*model, name) == std::vector<float>{0.7f});
  CHECK(logits(*model) != before);
  save_model(*model, folder / "y.safetensors");
  load_parameters(*other, folder / "y.safetensors");
  CHECK(logits(*other) == logits(*model));
  for (NamedTensor& named : tensors)
    if (named.name == name) named.tensor = from_values<float>(Shape{2}, {1, 2});
  write_package_checkpoint(folder / "x.pth", tensors);
  CHECK(error_text<FileError>([&] { load_parameters(*model, folder / "x.pth"); }).ends_with(name + ": expected shape (1), got (2)"));
}

}  // namespace mblm::testing
