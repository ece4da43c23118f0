// Properties of models of any depth, widths and blocks, tested on random models.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "tests/random_config.h"

namespace mblm::testing {
namespace {

constexpr int models = 40;
constexpr double same = 1e-10;  // bound for float64 results with different orders of summation

// Whether the output of stage n reaches the local stage. A stage with a single token passes on only the output of its start token.
bool reaches_local(const ModelConfig& config, int n) {
  return std::all_of(config.seq_lens.begin() + std::min(n + 1, config.stages() - 1), config.seq_lens.end() - 1, [](std::int64_t length) { return length > 1; });
}

template <class Check>
void for_random_models(Check check) {
  const NoGradScope no_grad;
  for (std::uint64_t seed = 0; seed < models; ++seed) {
    const ModelConfig config = random_config(seed);
    CAPTURE(to_yaml(config));
    check(*make_model(config, DType::Float64, seed));
  }
}

// The largest difference of `rows` rows.
double largest_difference(const HostArray& a, std::int64_t a_row, const HostArray& b, std::int64_t b_row, std::int64_t rows) {
  const std::int64_t width = a.shape.last();
  double largest = 0;
  for (std::int64_t i = 0; i < rows * width; ++i)
    largest = std::max(largest, std::abs(a.v[static_cast<std::size_t>(a_row * width + i)] - b.v[static_cast<std::size_t>(b_row * width + i)]));
  return largest;
}

// A loss mask for about half of the bytes.
Tensor random_mask(std::int64_t batch, std::int64_t length) {
  Random random(11);
  std::vector<double> weights(static_cast<std::size_t>(batch * length));
  for (double& w : weights) w = static_cast<double>(random() % 2) * (1 + static_cast<double>(random() % 4));
  return from_values<double>(Shape{batch, length}, weights);
}

}  // namespace

TEST_CASE("random models: a byte affects its own logits and no earlier ones") {
  for_random_models([](const Model& model) {
    const std::int64_t length = model.config().context();
    const Tensor ids = random_ids(1, length);
    const HostArray before = to_host(model.logits(ids));
    for (const std::int64_t at : {std::int64_t{0}, length / 3, length / 2, length - 1}) {
      Tensor changed = clone(ids);
      changed.host_data<std::int64_t>()[at] = (changed.host_data<std::int64_t>()[at] + 1) % 39;
      const HostArray after = to_host(model.logits(changed));
      CHECK(largest_difference(before, 0, after, 0, at) == 0.0);
      CHECK(largest_difference(before, at, after, at, 1) > 0.0);
    }
  });
}

TEST_CASE("random models: logits do not depend on other sequences or later bytes") {
  for_random_models([](const Model& model) {
    const std::int64_t length = model.config().context();
    const Tensor ids = random_ids(3, length);
    const HostArray together = to_host(model.logits(ids));
    for (std::int64_t b = 0; b < 3; ++b) {
      CHECK(largest_difference(to_host(model.logits(ids.slice(b, b + 1))), 0, together, b * length, length) < same);
      for (const std::int64_t shorter : {std::int64_t{1}, (length + 1) / 2, length - 1}) {
        const std::int64_t* row = ids.host_data<std::int64_t>() + b * length;
        const Tensor beginning = from_values<std::int64_t>(Shape{1, shorter}, std::vector<std::int64_t>(row, row + shorter));
        CHECK(largest_difference(to_host(model.logits(beginning)), 0, together, b * length, shorter) < same);
      }
    }
  });
}

TEST_CASE("random models: a stage restarts in each patch of the stage above") {
  for_random_models([](const Model& model) {
    const ModelConfig& config = model.config();
    const Tensor ids = random_ids(2, config.context());
    const HostArray before = to_host(model.hidden_states(model.embeddings(ids)));
    for (int n = 0; n < config.stages(); ++n) {
      std::vector<Tensor> embeddings = model.embeddings(ids);
      Tensor& stage = embeddings[static_cast<std::size_t>(config.stages() - 1 - n)];
      stage = clone(stage);
      const std::int64_t tokens = stage.numel() / stage.shape().last(), token = tokens / 2;
      for (std::int64_t i = 0; i < stage.shape().last(); ++i) stage.host_data<double>()[token * stage.shape().last() + i] += 1 + static_cast<double>(i);
      const HostArray after = to_host(model.hidden_states(embeddings));
      // The bytes of the sequence that contains the token.
      const std::int64_t patch = config.patch_bytes(n), sequence = config.seq_lens[static_cast<std::size_t>(n)];
      const std::int64_t begin = token / sequence * sequence * patch, end = begin + sequence * patch, all = tokens * patch;
      CHECK(largest_difference(before, 0, after, 0, begin) == 0.0);
      CHECK(largest_difference(before, end, after, end, all - end) == 0.0);
      // A token above the local stage affects the patches after its own.
      const std::int64_t first = n + 1 < config.stages() ? (token + 1) * patch : token;
      CHECK(largest_difference(before, begin, after, begin, first - begin) == 0.0);
      if (first < end && reaches_local(config, n)) CHECK(largest_difference(before, first, after, first, end - first) > 0.0);
    }
  });
}

TEST_CASE("random models: nested and flat input have the same logits and the same loss") {
  for_random_models([](const Model& model) {
    const ModelConfig& config = model.config();
    if (config.stages() == 1) return;
    std::vector<std::int64_t> sizes = config.seq_lens;
    sizes.insert(sizes.begin(), 2);
    const std::int64_t length = config.context(), patch = config.seq_lens.back();
    const Tensor flat = random_ids(2, length), nested = flat.reshape(Shape(std::span<const std::int64_t>(sizes)));
    const HostArray logits = to_host(model.logits(flat)), with_start = to_host(model.logits(nested));
    for (std::int64_t p = 0; p < 2 * length / patch; ++p) CHECK(largest_difference(logits, p * patch, with_start, p * (patch + 1) + 1, patch) < same);
    CHECK(model.loss(nested).loss.item() == doctest::Approx(model.loss(flat).loss.item()).epsilon(same));
  });
}

TEST_CASE("random models: the loss of a batch is the mean of its parts, weighted by their counts") {
  for_random_models([](const Model& model) {
    const std::int64_t length = model.config().context();
    Tensor ids = random_ids(3, length);
    for (std::int64_t i = 0; i < ids.numel(); i += 7) ids.host_data<std::int64_t>()[i] = model.config().pad_token_id;
    const Tensor mask = random_mask(3, length);
    const auto part = [&](std::int64_t begin, std::int64_t end) { return model.loss(ids.slice(begin, end), mask.slice(begin, end)); };
    const Model::Loss whole = part(0, 3), first = part(0, 1), rest = part(1, 3);
    const double counts = first.count.item() + rest.count.item();
    CHECK(whole.count.item() == counts);
    const double sum = first.loss.item() * first.count.item() + rest.loss.item() * rest.count.item();
    CHECK(whole.loss.item() * counts == doctest::Approx(sum).epsilon(same));
  });
}

TEST_CASE("random models: dropout of 0 has no effect, and evaluation has no dropout") {
  const NoGradScope no_grad;
  const ForwardContext training{.training = true, .seed = 3};
  for (std::uint64_t seed = 0; seed < models; ++seed) {
    const auto without = make_model(random_config(seed)), with = make_model(random_config(seed, 0.5));
    CAPTURE(to_yaml(with->config()));
    const Tensor ids = random_ids(2, without->config().context());
    const std::vector<float> plain = without->logits(ids).to_vector<float>();
    CHECK(without->logits(ids, training).to_vector<float>() == plain);
    CHECK(with->logits(ids).to_vector<float>() == plain);
    bool has_dropout = false;
    for (int n = 0; n < with->config().stages(); ++n)
      has_dropout |= with->config().blocks[static_cast<std::size_t>(n)]->type() != "mamba1" && reaches_local(with->config(), n);
    CHECK((with->logits(ids, training).to_vector<float>() != plain) == has_dropout);
  }
}

}  // namespace mblm::testing
