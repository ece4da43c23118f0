#include "tests/golden_case.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "examples/lstm_block.h"
#include "mblm/checkpoint.h"
#include "mblm/generator.h"
#include "mblm/scorer.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr double logits_bound = 3e-6, loss_bound = 2e-6, gradient_bound = 3e-5, zero_gradient_bound = 1e-7;
// In bfloat16: of all gradients together, and of each gradient whose norm is more than `large_share` of theirs.
constexpr double bfloat16_logits_bound = 1e-2, bfloat16_loss_bound = 1e-3, bfloat16_total_bound = 2e-2, bfloat16_gradient_bound = 0.1, large_share = 1e-3;
// Logits of inference with caches and of a forward pass: the largest difference, and in bfloat16, where both round, ||a - b|| / ||b||.
constexpr double generation_bound = 1e-4, bfloat16_generation_bound = 1e-2;

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", value);
  return text;
}

double norm(const HostArray& x) {
  double square = 0;
  for (const double v : x.v) square += v * v;
  return std::sqrt(square);
}

// model.yaml contains the model's fields; meta.json contains the fields of a masked language model.
ModelConfig read_config(const std::filesystem::path& folder, const nlohmann::json& meta) {
  const nlohmann::json strategy = meta.value("encoder", nlohmann::json());
  BlockRegistry blocks;
  blocks.add<lstm::LstmConfig>();
  if (strategy.is_null()) return read_model_config(folder / "model.yaml", blocks);
  std::ifstream file(folder / "model.yaml");
  std::string text, line;
  while (std::getline(file, line)) text += "  " + line + "\n";
  const int another_id_than_padding = text.find("pad_token_id: 0\n") == text.npos ? 0 : 1;
  text = concat_text("mask_token_id: ", another_id_than_padding, "\nmask_reduce_strat: ", strategy.get<std::string>(), "\nmblm_config:\n", text);
  return parse_model_config(text, (folder / "model.yaml").string(), blocks);
}

void check_gradients(const Model& model, const SafetensorsFile& expected, bool narrow, GoldenResult& result) {
  double largest = 0, square = 0, square_difference = 0, worst = 0;
  std::string worst_name = "none";
  for (const std::string& name : expected.names()) {
    if (!name.starts_with("grad.")) continue;
    const double size = norm(to_host(expected.tensor(name)));
    largest = std::max(largest, size);
    square += size * size;
  }
  std::size_t seen = 0;
  for (const NamedTensor& ours : model.parameters().named_gradients()) {
    const std::string name = "grad." + ours.name;
    if (!expected.has(name)) {
      result.failures.push_back(name + ": not in the case");
      continue;
    }
    ++seen;
    const HostArray truth = to_host(expected.tensor(name)), got = to_host(ours.tensor);
    const bool is_zero = norm(truth) == 0;
    const double error = is_zero ? norm(got) / std::max(largest, 1e-30) : relative_error(got, truth);
    square_difference += std::pow(error * (is_zero ? largest : norm(truth)), 2);
    if (!narrow)
      result.check(name, error, is_zero ? zero_gradient_bound : gradient_bound);
    else if (norm(truth) > large_share * std::sqrt(square))
      result.check(name, error, bfloat16_gradient_bound);
    else
      continue;
    if (!is_zero && error > worst) {
      worst = error;
      worst_name = ours.name;
    }
  }
  const auto count = std::count_if(expected.names().begin(), expected.names().end(), [](const std::string& n) { return n.starts_with("grad."); });
  if (static_cast<std::size_t>(count) != seen) result.failures.push_back("gradients that the model does not have: " + std::to_string(count - static_cast<long>(seen)));
  result.line += ", gradients " + short_number(worst) + " (" + worst_name + ")";
  if (!narrow) return;
  const double total = std::sqrt(square_difference / std::max(square, 1e-30));
  result.check("all gradients", total, bfloat16_total_bound);
  result.line += ", all " + short_number(total);
}

// The logits that predict each byte of a sequence (L): all at once by the scorer, and byte by byte by the generator for the last third of
// the sequence, after the rest as a prompt. Both have the same bits.
HostArray cached_logits(const Model& model, const Tensor& ids, GoldenResult& result) {
  const std::vector<std::int64_t> bytes = ids.to_vector<std::int64_t>();
  const std::int64_t length = std::ssize(bytes), width = model.config().num_tokens;
  HostArray all(Shape{length, width});
  Scorer scorer(model);
  for (std::int64_t begin = 0; begin < length; begin += scorer.chunk_bytes()) {
    const auto chunk = std::span(bytes).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(std::min(scorer.chunk_bytes(), length - begin)));
    const std::vector<double> logits = scorer.next(chunk).to_vector_as<double>();
    std::copy(logits.begin(), logits.end(), all.v.begin() + begin * width);
  }
  Generator generator(model);
  const Generator::Row row = generator.join();
  const std::int64_t prompt = 2 * length / 3;
  generator.feed(row, std::span(bytes).first(static_cast<std::size_t>(prompt)));
  for (std::int64_t t = prompt; t < length; ++t) {
    const auto same = [](float a, double b) { return static_cast<double>(a) == b; };
    if (!std::equal(generator.logits(row).begin(), generator.logits(row).end(), all.v.begin() + t * width, same)) {
      result.failures.push_back(concat_text("generator: other bits than the scorer at byte ", t));
      break;
    }
    generator.step(std::span(&row, 1), std::span(&bytes[static_cast<std::size_t>(t)], 1));
  }
  return all;
}

// The results of inference with caches against those of a forward pass over the whole sequences.
void check_inference(const Model& model, const Tensor& ids, bool narrow, GoldenResult& result) {
  const NoGradScope no_grad;
  const std::int64_t batch = ids.size(0), length = ids.numel() / batch;
  const HostArray whole = to_host(model.loss(ids).logits);
  double largest = 0;
  HostArray all(whole.shape);
  for (std::int64_t b = 0; b < batch; ++b) {
    const HostArray cached = cached_logits(model, ids.slice(b, b + 1).reshape(Shape{length}), result);
    std::copy(cached.v.begin(), cached.v.end(), all.v.begin() + b * std::ssize(cached.v));
  }
  for (std::size_t i = 0; i < all.v.size(); ++i) largest = std::max(largest, std::abs(all.v[i] - whole.v[i]));
  const double error = narrow ? relative_error(all, whole) : largest;
  result.check("generation", error, narrow ? bfloat16_generation_bound : generation_bound);
  result.line += ", generation " + short_number(error);
}

}  // namespace

void GoldenResult::check(const std::string& what, double error, double bound) {
  if (error <= bound) return;  // NaN fails
  outcome = Failed;
  failures.push_back(what + ": " + short_number(error) + ", bound " + short_number(bound));
}

GoldenResult run_forward_case(const std::filesystem::path& folder, DType precision, Device device) {
  GoldenResult result;
  const bool narrow = precision == DType::BFloat16;
  const nlohmann::json meta = nlohmann::json::parse(std::ifstream(folder / "meta.json"));
  Model model(read_config(folder, meta));
  model.allocate(device, precision);
  load_parameters(model, folder / "weights.safetensors");
  const SafetensorsFile expected(folder / "case.safetensors");
  const Tensor ids = expected.tensor("input_ids");
  ForwardContext context;
  context.training = meta.at("train").get<bool>();
  if (expected.has("attention_mask")) context.token_mask = expected.tensor("attention_mask");
  const auto compare = [&](const char* name, const Tensor& ours, double bound) {
    if (!expected.has(name)) return;
    const double error = relative_error(to_host(ours), to_host(expected.tensor(name)));
    if (concat_text(ours.shape()) != concat_text(expected.tensor(name).shape())) result.failures.push_back(std::string(name) + ": shape");
    result.check(name, error, bound);
    result.line += (result.line.empty() ? "" : ", ") + std::string(name) + " " + short_number(error);
  };
  {
    const NoGradScope no_grad;
    const double bound = narrow ? bfloat16_logits_bound : logits_bound;
    compare("logits", model.logits(ids, context), bound);
    if (expected.has("hidden")) compare("hidden", model.hidden_states(ids, context), bound);
  }
  if (expected.has("loss")) {
    model.parameters().zero_gradients();
    const Tensor mask = expected.has("loss_mask") ? expected.tensor("loss_mask") : Tensor{};
    const Model::Loss loss = model.config().is_masked() ? model.masked_loss(ids, expected.tensor("labels"), mask, context) : model.loss(ids, mask, context);
    compare("loss", loss.loss, narrow ? bfloat16_loss_bound : loss_bound);
    backward(loss.loss);
    check_gradients(model, expected, narrow, result);
  }
  const bool has_dropout = context.training;  // the forward pass, unlike inference
  if (!model.config().is_masked() && !has_dropout && ids.numel() > 0) check_inference(model, ids, narrow, result);
  if (!result.failures.empty()) result.outcome = GoldenResult::Failed;
  return result;
}

}  // namespace mblm::testing
