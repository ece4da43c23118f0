// Properties of whole models for any weights.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "engine/parallel.h"
#include "engine/pool.h"
#include "ops/sequence.h"
#include "tests/small_model.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::string transformer = "{attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed, attn_dropout: 0.2, ff_dropout: 0.1}";
const std::string free_transformer = "{attn_head_dims: 6, attn_num_heads: 3, attn_use_rot_embs: false, pos_emb_type: rope}";
const std::string mamba2 = "{d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null, dropout: 0.1}";
const std::string mamba1 = "{block_type: mamba1, d_state: 8, d_conv: 3, expand: 2, headdim: 8, pos_emb_type: null}";

std::vector<ModelConfig> all_kinds() {
  return {config_of("[20]", "[16]", "[2]", transformer),
          config_of("[20]", "[16]", "[2]", mamba2),
          config_of("[20]", "[16]", "[2]", mamba1),
          config_of("[5, 4]", "[16, 12]", "[1, 2]", "[" + mamba2 + ", " + transformer + "]"),
          config_of("[5, 4]", "[18, 12]", "[1, 1]", "[" + free_transformer + ", " + mamba1 + "]"),
          config_of("[3, 4, 2]", "[16, 12, 8]", "[1, 1, 1]", "[" + transformer + ", " + mamba1 + ", " + mamba2 + "]")};
}

double largest_difference(const HostArray& a, const HostArray& b, std::size_t from, std::size_t to) {
  double largest = 0;
  for (std::size_t i = from; i < to; ++i) largest = std::max(largest, std::abs(a.v[i] - b.v[i]));
  return largest;
}

}  // namespace

TEST_CASE("a byte does not affect logits before it") {
  const NoGradScope no_grad;
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config, DType::Float64);
    const std::int64_t length = config.context() - 1;
    Tensor ids = random_ids(1, length);
    const HostArray before = to_host(model->logits(ids));
    for (const std::int64_t at : {std::int64_t{0}, std::int64_t{3}, length / 2, length - 1}) {
      Tensor changed = clone(ids);
      changed.host_data<std::int64_t>()[at] = (changed.host_data<std::int64_t>()[at] + 1) % 39;
      const HostArray after = to_host(model->logits(changed));
      const auto row = static_cast<std::size_t>(at * config.num_tokens);
      CHECK(largest_difference(before, after, 0, row) == 0.0);
      CHECK(largest_difference(before, after, row, before.v.size()) > 0.0);
    }
  }
}

TEST_CASE("sequences of a batch are independent, and padding has no effect") {
  const NoGradScope no_grad;
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config, DType::Float64);
    const Tensor ids = random_ids(3, 11);
    const HostArray together = to_host(model->logits(ids));
    const HostArray alone = to_host(model->logits(ids.slice(1, 2)));
    for (std::size_t i = 0; i < alone.v.size(); ++i) REQUIRE(std::abs(alone.v[i] - together.v[alone.v.size() + i]) < 1e-12);
    // A prefix has the logits of the longer input.
    std::vector<std::int64_t> first(ids.host_data<std::int64_t>(), ids.host_data<std::int64_t>() + 5);
    const HostArray shorter = to_host(model->logits(from_values<std::int64_t>(Shape{1, 5}, first)));
    for (std::size_t i = 0; i < shorter.v.size(); ++i) REQUIRE(std::abs(shorter.v[i] - together.v[i]) < 1e-12);
  }
}

TEST_CASE("a nested input equals the flat one, and its logits include the start tokens") {
  const NoGradScope no_grad;
  const ModelConfig config = config_of("[3, 4, 2]", "[16, 12, 8]", "[1, 1, 1]", "[" + transformer + ", " + mamba1 + ", " + mamba2 + "]");
  const auto model = make_model(config, DType::Float64);
  const Tensor flat = random_ids(2, 24), nested = flat.reshape(Shape{2, 3, 4, 2});
  CHECK(model->loss(nested).loss.item() == model->loss(flat).loss.item());
  const HostArray logits = to_host(model->logits(flat)), with_start = to_host(model->logits(nested));
  CHECK(concat_text(with_start.shape) == "(2, 3, 4, 3, 40)");
  for (std::int64_t byte = 0; byte < 48; ++byte) {
    const std::int64_t row = byte / 2 * 3 + 1 + byte % 2;
    for (std::int64_t v = 0; v < 40; ++v)
      REQUIRE(std::abs(logits.v[static_cast<std::size_t>(byte * 40 + v)] - with_start.v[static_cast<std::size_t>(row * 40 + v)]) < 1e-12);
  }
  CHECK(concat_text(model->hidden_states(nested).shape()) == "(2, 3, 4, 2, 8)");
}

TEST_CASE("embeddings of an input give the same hidden states as the input") {
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config);
    for (const std::int64_t length : {config.context(), config.context() - 1, std::int64_t{1}, std::int64_t{0}}) {
      const Tensor ids = random_ids(3, length);
      const std::vector<Tensor> embeddings = model->embeddings(ids);
      REQUIRE(embeddings.size() == static_cast<std::size_t>(config.stages()));
      CHECK(embeddings.back().shape() == Shape{3, (length + config.patch_bytes(0) - 1) / config.patch_bytes(0), config.hidden_dims[0]});
      const Tensor nested = model->hidden_states(embeddings);
      CHECK(nested.shape() == embeddings.front().shape());
      const std::int64_t padded = nested.numel() / 3 / nested.shape().last();
      const Tensor flat = slice_sequence(nested.reshape(Shape{3, padded, nested.shape().last()}), 0, length);
      const Tensor hidden = model->hidden_states(ids);
      CHECK(flat.shape() == hidden.shape());
      CHECK(relative_error(to_host(flat), to_host(hidden)) < 1e-6);
    }
  }
}

TEST_CASE("embeddings receive gradients, and invalid ones are reported") {
  const auto model = make_model(config_of("[3, 4]", "[16, 12]", "[1, 1]", "[" + transformer + ", " + mamba2 + "]"), DType::Float64);
  std::vector<Tensor> embeddings = model->embeddings(random_ids(2, 12));
  for (Tensor& stage : embeddings) stage = stage.detach().as_leaf();
  const Tensor hidden = model->hidden_states(embeddings);
  const std::vector<Tensor> gradients = backward(std::span(&hidden, 1), std::span(&hidden, 1), embeddings);
  for (std::size_t n = 0; n < 2; ++n) {
    CHECK(gradients[n].shape() == embeddings[n].shape());
    const HostArray gradient = to_host(gradients[n]);
    CHECK(std::any_of(gradient.v.begin(), gradient.v.end(), [](double v) { return v != 0; }));
  }
  const NoGradScope no_grad;
  const auto message = [&](const std::vector<Tensor>& wrong) { return message_of<Error>([&] { model->hidden_states(wrong); }); };
  const auto of = [](const Shape& shape, DType dtype = DType::Float64) { return zeros(shape, dtype); };
  CHECK(message({embeddings[0]}) == "embeddings: expected 2 tensors, one per stage, got 1");
  CHECK(message({of(Shape{2, 12, 12}), embeddings[1]}) == "embeddings: expected shape (B, P, ..., D) with 4 axes for the local stage, got (2, 12, 12)");
  CHECK(message({embeddings[0], of(Shape{2, 2, 16})}) == "embeddings: expected stage 0 of shape (2, 3, 16), got (2, 2, 16)");
  CHECK(message({of(Shape{2, 3, 5, 12}), embeddings[1]}) == "embeddings: expected stage 1 of shape (2, 3, 4, 12), got (2, 3, 5, 12)");
  CHECK(message({of(Shape{2, 3, 4, 12}, DType::Float32), embeddings[1]}) == "embeddings: expected stage 1 of float64, got float32");
  CHECK(message({of(Shape{2, 4, 4, 12}), of(Shape{2, 4, 16})}) ==
        "embeddings: expected at most 3 tokens of stage 0, the fixed context of the model, got 4");
}

TEST_CASE("the loss uses the logits one byte earlier") {
  const NoGradScope no_grad;
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config, DType::Float64);
    const Tensor ids = random_ids(2, 10);
    const Model::Loss loss = model->loss(ids);
    const HostArray logits = to_host(model->logits(ids)), elements = to_host(loss.elements), first = to_host(model->logits(ids.reshape(Shape{2, 10})));
    const auto nll = [&](const HostArray& rows, std::int64_t row, std::int64_t target) {
      double sum = 0;
      for (std::int64_t v = 0; v < 40; ++v) sum += std::exp(rows.v[static_cast<std::size_t>(row * 40 + v)]);
      return std::log(sum) - rows.v[static_cast<std::size_t>(row * 40 + target)];
    };
    double total = 0;
    for (std::int64_t b = 0; b < 2; ++b) {
      for (std::int64_t t = 1; t < 10; ++t)
        CHECK(elements.v[static_cast<std::size_t>(b * 10 + t)] == doctest::Approx(nll(logits, b * 10 + t - 1, ids.host_data<std::int64_t>()[b * 10 + t])));
      for (std::int64_t t = 0; t < 10; ++t) total += elements.v[static_cast<std::size_t>(b * 10 + t)];
    }
    CHECK(loss.loss.item() == doctest::Approx(total / 20));
  }
}

TEST_CASE("an empty input gives the distribution of the first byte that the loss uses") {
  const NoGradScope no_grad;
  for (const ModelConfig& config : {config_of("[20]", "[16]", "[2]", transformer), config_of("[20]", "[16]", "[1]", mamba2)}) {
    const auto model = make_model(config, DType::Float64);
    const HostArray logits = to_host(model->logits(empty(Shape{1, 0}, DType::Int64)));
    REQUIRE(concat_text(logits.shape) == "(1, 1, 40)");
    const Tensor ids = random_ids(1, 4);
    double sum = 0;
    for (const double v : logits.v) sum += std::exp(v);
    const double expected = std::log(sum) - logits.v[static_cast<std::size_t>(ids.host_data<std::int64_t>()[0])];
    CHECK(to_host(model->loss(ids).elements).v[0] == doctest::Approx(expected));
  }
}

TEST_CASE("a stage that continues from its state gives the same results as in one pass") {
  const NoGradScope no_grad;
  for (const std::string& block : {transformer, free_transformer, mamba2, mamba1}) {
    const auto model = make_model(config_of("[64]", "[24]", "[2]", block), DType::Float64);
    const StageBlock& stage = model->hierarchy().block(0);
    Tensor x = empty(Shape{3, 40, 24}, DType::Float64);
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < x.numel(); ++i) x.host_data<double>()[i] = normal(random);
    const HostArray whole = to_host(stage.forward(x, nullptr, {}));
    const auto state = stage.start(3);
    REQUIRE(state != nullptr);
    std::int64_t begin = 0;
    for (const std::int64_t length : {1, 1, 5, 20, 1, 12}) {
      Tensor piece = empty(Shape{3, length, 24}, DType::Float64);
      for (std::int64_t b = 0; b < 3; ++b) std::copy_n(x.host_data<double>() + (b * 40 + begin) * 24, length * 24, piece.host_data<double>() + b * length * 24);
      const HostArray y = to_host(stage.forward(piece, state.get(), {}));
      for (std::int64_t b = 0; b < 3; ++b)
        for (std::int64_t i = 0; i < length * 24; ++i)
          REQUIRE(std::abs(y.v[static_cast<std::size_t>(b * length * 24 + i)] - whole.v[static_cast<std::size_t>((b * 40 + begin) * 24 + i)]) < 1e-10);
      begin += length;
      CHECK(state->lengths == std::vector<std::int64_t>(3, begin));
    }
  }
}

TEST_CASE("recomputed stages give the same results and use less memory") {
  const std::string blocks = "[" + mamba2 + ", " + transformer + "]";
  const Tensor ids = random_ids(4, 128);
  std::vector<HostArray> values, gradients;
  std::vector<std::size_t> peaks;
  for (const char* chunks : {"null", "[8]"}) {
    auto pool = std::make_shared<MemoryPool>(Device{});
    const PoolScope scope(pool);
    const auto model = make_model(config_of("[32, 4]", "[16, 12]", "[1, 3]", blocks, chunks));
    ForwardContext context;
    context.training = true;  // enables dropout: recomputing a chunk must draw the same masks
    context.seed = 5;
    const Model::Loss loss = model->loss(ids, {}, context);
    backward(loss.loss);
    values.push_back(to_host(loss.elements));
    gradients.push_back(to_host(model->parameters().gradients()));
    peaks.push_back(pool->statistics().peak_used_bytes);
  }
  CHECK(relative_error(values[1], values[0]) < 1e-6);
  CHECK(relative_error(gradients[1], gradients[0]) < 1e-6);
  CHECK(peaks[1] < 0.7 * static_cast<double>(peaks[0]));
}

TEST_CASE("dropout depends on the seed, the micro-step and the index in the global batch") {
  const auto model = make_model(config_of("[5, 4]", "[16, 12]", "[1, 2]", "[" + mamba2 + ", " + transformer + "]"), DType::Float64);
  const Tensor ids = random_ids(2, 20);
  const NoGradScope no_grad;
  ForwardContext context;
  context.training = true;
  const std::vector<double> both = to_host(model->loss(ids, {}, context).elements).v;
  CHECK(to_host(model->loss(ids, {}, context).elements).v == both);
  context.first_sequence = 1;
  const std::vector<double> second = to_host(model->loss(ids.slice(1, 2), {}, context).elements).v;
  for (std::size_t i = 0; i < second.size(); ++i) CHECK(second[i] == doctest::Approx(both[20 + i]).epsilon(1e-12));
  context.first_sequence = 0;
  context.step_scalars = make_step_scalars({}, {.micro_step = 1});
  CHECK(to_host(model->loss(ids, {}, context).elements).v != both);
  context.training = false;
  CHECK(to_host(model->loss(ids, {}, context).elements).v == to_host(model->loss(ids).elements).v);
}

TEST_CASE("a training step is bit-identical for any number of threads") {
  const int before = thread_count();
  for (const ModelConfig& config : all_kinds()) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 8}) {
      set_thread_count(threads);
      const auto model = make_model(config);
      ForwardContext context;
      context.training = true;
      backward(model->loss(random_ids(5, 19), {}, context).loss);
      const std::vector<float> gradients = model->parameters().gradients().to_vector<float>();
      if (first.empty()) first = gradients;
      CHECK(gradients == first);
    }
  }
  set_thread_count(before);
}

TEST_CASE("a loss mask of zeros gives loss 0 and zero gradients") {
  const auto model = make_model(all_kinds()[3]);
  const Tensor ids = random_ids(2, 20);
  const Model::Loss loss = model->loss(ids, zeros(Shape{2, 20}, DType::Float32));
  backward(loss.loss);
  CHECK(loss.loss.item() == 0.0);
  CHECK(loss.count.item() == 0.0);
  for (const float g : model->parameters().gradients().to_vector<float>()) REQUIRE(g == 0.0f);
}

TEST_CASE("invalid inputs are reported") {
  const auto model = make_model(all_kinds()[0]);
  Tensor ids = random_ids(1, 5);
  ids.host_data<std::int64_t>()[3] = 40;
  CHECK_THROWS_WITH_AS(model->logits(ids), "input_ids: expected ids in [0, 40), got 40 at position 3", ValueError);
  CHECK_THROWS_WITH_AS(model->logits(random_ids(1, 21)), "input_ids: expected at most 20 ids, the fixed context of the model, got 21", ValueError);
  CHECK_THROWS_AS(model->logits(zeros(Shape{1, 5}, DType::Float32)), DTypeError);
  CHECK_THROWS_AS(model->loss(random_ids(1, 5), zeros(Shape{1, 4}, DType::Float32)), ShapeError);
  CHECK_THROWS_AS(make_model(all_kinds()[5])->logits(random_ids(1, 24).reshape(Shape{1, 4, 3, 2})), ShapeError);
}

TEST_CASE("a saved model is loaded, and a file of another model is rejected") {
  const TemporaryFolder folder;
  const ModelConfig config = all_kinds()[3];
  const auto model = make_model(config);
  save_model(*model, folder.path() / "model.safetensors", {{"note", "kept"}});
  const auto again = load_model(folder.path() / "model.safetensors", BlockRegistry());
  CHECK(again->parameters().values().to_vector<float>() == model->parameters().values().to_vector<float>());
  CHECK(to_yaml(again->config()) == to_yaml(config));

  const auto other = make_model(all_kinds()[4]);
  const std::vector<float> before = other->parameters().values().to_vector<float>();
  CHECK_THROWS_AS(load_parameters(*other, folder.path() / "model.safetensors"), FileError);
  CHECK(other->parameters().values().to_vector<float>() == before);

  write_safetensors(folder.path() / "bare.safetensors", model->parameters().named_values());
  CHECK_THROWS_AS(load_model(folder.path() / "bare.safetensors", BlockRegistry()), FileError);
}

TEST_CASE("a model is opened from its file or its run folder, with its own config or another file") {
  const TemporaryFolder folder;
  const std::filesystem::path run = folder.path() / "run", best = run / "checkpoints" / "best.safetensors", bare = folder.path() / "bare.safetensors";
  const std::string own = to_yaml(all_kinds()[3]);
  const auto model = make_model(all_kinds()[3]);
  const auto error = [](const std::filesystem::path& path) { return message_of<FileError>([&] { open_model(path, BlockRegistry()); }); };
  std::filesystem::create_directories(best.parent_path());
  CHECK(error(run) == run.string() + ": expected a run folder, checkpoints/best.safetensors is missing");
  save_model(*model, best);
  for (const std::filesystem::path& path : {run, best}) {
    const ModelFile opened = open_model(path, BlockRegistry());
    CHECK(opened.file.path == best);
    CHECK(to_yaml(opened.config) == own);
    CHECK(load_model(opened)->parameters().values().to_vector<float>() == model->parameters().values().to_vector<float>());
  }

  write_safetensors(bare, model->parameters().named_values());
  CHECK(error(bare) == bare.string() + ": expected a model config in the file's metadata, there is none; give it with --config");
  CHECK(to_yaml(open_model(bare, BlockRegistry(), folder.write("model.yaml", own)).config) == own);
  const std::string other = to_yaml(all_kinds()[0]);  // overrides the config in the checkpoint
  CHECK(to_yaml(open_model(best, BlockRegistry(), folder.write("other.yaml", other)).config) == other);

  CHECK(error(folder.path() / "none.safetensors") == (folder.path() / "none.safetensors").string() + ": no such file or folder");
  CHECK(error(folder.write("text.txt", "x")) == (folder.path() / "text.txt").string() + ": expected a run folder, a .safetensors or a .pth file");
}

TEST_CASE("initial values depend only on the seed and the name") {
  const ModelConfig config = all_kinds()[3];
  const auto values = [&](std::uint64_t seed) { return make_model(config, DType::Float32, seed)->parameters().values().to_vector<float>(); };
  CHECK(values(1) == values(1));
  CHECK(values(1) != values(2));
  const auto model = make_model(config);
  for (const NamedTensor& named : model->parameters().named_values()) {
    const HostArray v = to_host(named.tensor);
    CAPTURE(named.name);
    if (named.name.ends_with("embedding.weight")) {
      for (std::int64_t i = 0; i < named.tensor.size(1); ++i) CHECK(v.v[static_cast<std::size_t>(39 * named.tensor.size(1) + i)] == 0.0);
    }
    if (named.name.ends_with("mixer.A_log")) {
      for (const double x : v.v) CHECK((x >= 0 && x <= std::log(16.0)));
    }
    if (named.name.ends_with("to_q.weight")) {
      const double bound = 1.0 / std::sqrt(static_cast<double>(named.tensor.size(1)));
      for (const double x : v.v) REQUIRE(std::abs(x) <= bound);
    }
  }
}

}  // namespace mblm::testing
