#include "serve/completion_request.h"

#include <algorithm>
#include <limits>
#include <random>
#include <utility>

#include "serve/base64.h"
#include "serve/json_fields.h"

namespace mblm {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int64_t>;

constexpr std::int64_t usual_tokens = 16;         // max_tokens of OpenAI's API
constexpr std::size_t most_stops = 8, longest_stop = 128;  // bytes
constexpr double largest = 1e6;                   // temperature and penalty
constexpr std::int64_t most_likeliest = 20;

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

Ids ids_of_bytes(const std::string& field, const std::string& bytes, const ModelConfig& config) {
  Ids ids;
  ids.reserve(bytes.size());
  for (const char c : bytes) {
    const auto id = static_cast<std::int64_t>(static_cast<unsigned char>(c));
    if (id >= config.num_tokens) refuse_field(field, concat_text("expected bytes below ", config.num_tokens, ", the model's number of ids, got ", id));
    ids.push_back(id);
  }
  return ids;
}

Ids ids_of_list(const std::string& field, const Json& list, const ModelConfig& config) {
  Ids ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    const bool valid = item.is_number_unsigned() && item.get<std::uint64_t>() < static_cast<std::uint64_t>(config.num_tokens);
    if (!valid) refuse_field(field, concat_text("expected ids in [0, ", config.num_tokens, "), got ", shown(item)));
    ids.push_back(item.get<std::int64_t>());
  }
  return ids;
}

std::string decoded(const std::string& field, const Json& value) {
  std::optional<std::string> bytes = value.is_string() ? from_base64(value.get_ref<const std::string&>()) : std::nullopt;
  if (!bytes) refuse_field(field, "expected base64, got " + shown(value));
  return *std::move(bytes);
}

// A string, a list of strings, a list of ids, or a list of lists of ids.
std::vector<Ids> prompts_of(const Json& value, const ModelConfig& config) {
  const std::string field = "prompt";
  if (value.is_string()) return {ids_of_bytes(field, value.get_ref<const std::string&>(), config)};
  if (!value.is_array()) refuse_field(field, "expected a string, a list of strings, or ids, got " + shown(value));
  if (value.empty()) refuse_field(field, "expected at least one prompt, got an empty list");
  if (value.front().is_number()) return {ids_of_list(field, value, config)};
  std::vector<Ids> prompts;
  for (const Json& item : value) {
    if (item.is_string() == value.front().is_string() && item.is_string()) {
      prompts.push_back(ids_of_bytes(field, item.get_ref<const std::string&>(), config));
    } else if (item.is_array() && value.front().is_array()) {
      prompts.push_back(ids_of_list(field, item, config));
    } else {
      refuse_field(field, "expected a list of strings or of lists of ids, found " + shown(item) + " in it");
    }
  }
  return prompts;
}

std::vector<Ids> read_prompts(JsonFields& fields, const ModelConfig& config) {
  const Json *text = fields.find("prompt"), *base64 = fields.find("prompt_base64");
  if (text && base64) refuse_field("prompt_base64", "expected either prompt or prompt_base64, got both");
  if (text) return prompts_of(*text, config);
  if (!base64) refuse_field("prompt", "expected a prompt, there is none");
  const std::string field = "prompt_base64";
  std::vector<Ids> prompts;
  if (!base64->is_array()) return {ids_of_bytes(field, decoded(field, *base64), config)};
  if (base64->empty()) refuse_field(field, "expected at least one prompt, got an empty list");
  for (const Json& item : *base64) prompts.push_back(ids_of_bytes(field, decoded(field, item), config));
  return prompts;
}

// A string or a list of strings.
std::vector<std::string> read_stop(JsonFields& fields) {
  const Json* value = fields.find("stop");
  if (!value) return {};
  std::vector<std::string> texts;
  const auto add = [&](const Json& item) {
    if (!item.is_string()) refuse_field("stop", "expected a string or a list of strings, got " + shown(item));
    texts.push_back(item.get<std::string>());
    if (texts.back().empty() || texts.back().size() > longest_stop)
      refuse_field("stop", concat_text("expected texts of 1 to ", longest_stop, " bytes, got ", texts.back().size()));
  };
  if (value->is_array()) {
    if (value->size() > most_stops) refuse_field("stop", concat_text("expected at most ", most_stops, " texts, got ", value->size()));
    for (const Json& item : *value) add(item);
  } else {
    add(*value);
  }
  return texts;
}

Ids read_stop_ids(JsonFields& fields, const ModelConfig& config) {
  const Json* value = fields.find("stop_token_ids");
  if (!value) return {};
  if (!value->is_array()) refuse_field("stop_token_ids", "expected a list of ids, got " + shown(*value));
  return ids_of_list("stop_token_ids", *value, config);
}

// Only bans: an object from ids to -100.
Ids read_bans(JsonFields& fields, const ModelConfig& config) {
  const Json* value = fields.find("logit_bias");
  if (!value) return {};
  if (!value->is_object()) refuse_field("logit_bias", "expected an object, got " + shown(*value));
  Ids banned;
  for (const auto& [name, bias] : value->items()) {
    const bool is_id = !name.empty() && name.size() <= 9 && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!is_id || std::stoll(name) >= config.num_tokens) refuse_field("logit_bias", concat_text("expected ids in [0, ", config.num_tokens, "), got ", shown_text(name)));
    if (!bias.is_number() || bias.get<double>() != -100) refuse_field("logit_bias", "expected -100, which bans an id, got " + shown(bias));
    banned.push_back(std::stoll(name));
  }
  if (std::ssize(banned) >= config.num_tokens) refuse_field("logit_bias", "bans every id");
  return banned;
}

SamplingOptions read_sampling(JsonFields& fields, const ModelConfig& config) {
  SamplingOptions o;
  o.temperature = fields.number("temperature", 0, largest).value_or(1);
  o.top_p = fields.number("top_p", std::numeric_limits<double>::min(), 1).value_or(1);
  o.top_k = fields.integer<std::int64_t>("top_k", 0, std::numeric_limits<std::int32_t>::max()).value_or(0);
  o.min_p = fields.number("min_p", 0, 1).value_or(0);
  o.repetition_penalty = fields.number("repetition_penalty", 1 / largest, largest).value_or(1);
  o.seed = fields.integer<std::uint64_t>("seed", 0, std::numeric_limits<std::uint64_t>::max()).value_or(random_seed());
  o.stop = read_stop_ids(fields, config);
  o.banned = read_bans(fields, config);
  return o;
}

// Fields of the API that have one acceptable value here.
void read_unsupported(JsonFields& fields, std::int64_t continuations) {
  for (const char* field : {"presence_penalty", "frequency_penalty"}) {
    const auto value = fields.number(field, -2, 2);
    if (value && *value != 0) refuse_field(field, concat_text("not supported, expected 0, got ", *value, "; see repetition_penalty"));
  }
  const auto best = fields.integer<std::int64_t>("best_of", 1, std::numeric_limits<std::int32_t>::max());
  if (best && *best != continuations) refuse_field("best_of", concat_text("not supported, expected the value of n, ", continuations, ", got ", *best));
  const auto suffix = fields.text("suffix");
  if (suffix && !suffix->empty()) refuse_field("suffix", "not supported: the model only continues a prompt");
  fields.text("user");
}

// The ids to add to a prompt.
std::int64_t count_for(const Ids& prompt, std::optional<std::int64_t> wanted, const ModelConfig& config, const ServeLimits& limits) {
  const std::int64_t context = config.context(), length = std::ssize(prompt);
  if (!config.fixed_context()) return wanted.value_or(std::min(usual_tokens, limits.tokens));
  if (length > context) refuse_field("prompt", concat_text("expected at most ", context, " bytes, the fixed context, got ", length));
  if (wanted && *wanted > context - length)
    refuse_field("max_tokens", concat_text("the fixed context of ", context, " bytes has room for ", context - length, " after the prompt, got ", *wanted));
  return wanted.value_or(std::min({usual_tokens, limits.tokens, context - length}));
}

Json parsed(std::string_view body) {
  try {
    Json json = Json::parse(body);
    if (json.is_object()) return json;
  } catch (const Json::exception& error) {
    const std::string text = error.what();  // "[json.exception.parse_error.101] parse error at line 1, ..."
    const std::size_t start = text.find("] ");
    throw RequestError(400, "invalid_request_error", "the body is not JSON: " + shown_text(start == std::string::npos ? text : text.substr(start + 2)));
  }
  throw RequestError(400, "invalid_request_error", "the body: expected a JSON object");
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view body, const ModelConfig& config, const std::string& model, const ServeLimits& limits) {
  const Json json = parsed(body);
  JsonFields fields(json);
  CompletionRequest request;
  if (const auto name = fields.text("model"); name && *name != model)
    throw RequestError(404, "not_found_error", concat_text("model: this server has the model ", shown_text(model), ", got ", shown_text(*name)), "model");
  std::vector<Ids> prompts = read_prompts(fields, config);
  Task task;
  task.continuations = fields.integer<std::size_t>("n", 1, limits.rows).value_or(1);
  const auto wanted = fields.integer<std::int64_t>("max_tokens", 0, limits.tokens);
  task.sampling = read_sampling(fields, config);
  task.stop = read_stop(fields);
  if (const auto likeliest = fields.integer<std::int64_t>("logprobs", 0, most_likeliest)) task.likeliest = static_cast<std::size_t>(*likeliest);
  request.log_probabilities = task.likeliest.has_value();
  request.echo = fields.boolean("echo").value_or(false);
  request.stream = fields.boolean("stream").value_or(false);
  task.score_prompt = request.echo && request.log_probabilities;
  if (const Json* options = fields.find("stream_options")) {
    if (!options->is_object()) refuse_field("stream_options", "expected an object, got " + shown(*options));
    JsonFields inner(*options, "stream_options.");
    request.stream_usage = inner.boolean("include_usage").value_or(false);
    inner.refuse_others();
  }
  read_unsupported(fields, static_cast<std::int64_t>(task.continuations));
  fields.refuse_others();

  const std::size_t most = std::max(limits.rows, limits.queue) / task.continuations;
  if (prompts.size() > most) refuse_field("prompt", concat_text("expected at most ", most, " prompts of ", task.continuations, " continuations, got ", prompts.size()));
  std::size_t echoed = 0;
  for (const Ids& prompt : prompts) echoed += prompt.size() * task.continuations;
  if (request.echo && echoed > limits.body) refuse_field("echo", concat_text("expected at most ", limits.body, " bytes of prompts in all continuations, got ", echoed));
  for (Ids& prompt : prompts) {
    Task one = task;
    one.count = count_for(prompt, wanted, config, limits);
    if (one.score_prompt && std::ssize(prompt) + one.count > limits.tokens)
      refuse_field("echo", concat_text("with logprobs, expected at most ", limits.tokens, " bytes in prompt and max_tokens, got ", std::ssize(prompt) + one.count));
    one.prompt = std::move(prompt);
    request.tasks.push_back(std::move(one));
  }
  return request;
}

}  // namespace mblm
