#include "serve/completion_response.h"

#include <algorithm>

#include "serve/base64.h"

namespace mblm {
namespace {

constexpr double lowest_log_probability = -9999;  // JSON has no infinity

std::int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

std::string token_text(std::int64_t id) {
  constexpr const char* digits = "0123456789abcdef";
  if (id > 255) return "id:" + std::to_string(id);
  if (id < 0x80) return std::string(1, static_cast<char>(id));
  return std::string("bytes:\\x") + digits[id >> 4] + digits[id & 15];
}

ChoiceText::ChoiceText(std::size_t index, bool log_probabilities) : index_(index), with_log_probabilities_(log_probabilities) { clear(); }

void ChoiceText::clear() {
  log_probabilities_ = {{"tokens", OrderedJson::array()}, {"token_logprobs", OrderedJson::array()}, {"top_logprobs", OrderedJson::array()}, {"text_offset", OrderedJson::array()}};
}

void ChoiceText::add(std::span<const ScoredId> ids) {
  for (const ScoredId& scored : ids) {
    if (with_log_probabilities_) {
      log_probabilities_["tokens"].push_back(token_text(scored.id));
      log_probabilities_["token_logprobs"].push_back(std::max(lowest_log_probability, scored.log_probability));
      OrderedJson likeliest = OrderedJson::object();
      for (const auto& [id, value] : scored.likeliest) likeliest[token_text(id)] = std::max(lowest_log_probability, value);
      likeliest[token_text(scored.id)] = std::max(lowest_log_probability, scored.log_probability);
      log_probabilities_["top_logprobs"].push_back(std::move(likeliest));
      log_probabilities_["text_offset"].push_back(characters_);
    }
    if (scored.id > 255) continue;
    const auto byte = static_cast<std::uint8_t>(scored.id);
    const std::string more = decoder_.push(byte);
    bytes_ += static_cast<char>(byte);
    characters_ += characters(more);
    text_ += more;
  }
}

void ChoiceText::finish(const std::string& reason) {
  text_ += decoder_.flush();
  reason_ = reason;
}

OrderedJson ChoiceText::take() {
  const std::size_t complete = bytes_.size() - decoder_.pending();
  OrderedJson choice = {{"text", text_}, {"index", index_}, {"logprobs", nullptr}, {"finish_reason", nullptr}, {"text_base64", to_base64(std::string_view(bytes_).substr(0, complete))}};
  if (with_log_probabilities_) choice["logprobs"] = std::move(log_probabilities_);
  if (reason_) choice["finish_reason"] = *reason_;
  text_.clear();
  bytes_.erase(0, complete);
  reason_.reset();
  clear();
  return choice;
}

OrderedJson Usage::json() const { return {{"prompt_tokens", prompt}, {"completion_tokens", completion}, {"total_tokens", prompt + completion}}; }

OrderedJson completion_json(const std::string& id, std::int64_t created, const std::string& model, OrderedJson choices, const std::optional<Usage>& usage) {
  OrderedJson json = {{"id", id}, {"object", "text_completion"}, {"created", created}, {"model", model}};
  json["choices"] = std::move(choices);
  if (usage) json["usage"] = usage->json();
  return json;
}

OrderedJson error_json(const std::string& type, const std::string& message, const std::string& field) {
  OrderedJson error = {{"message", message}, {"type", type}, {"param", nullptr}, {"code", nullptr}};
  if (!field.empty()) error["param"] = field;
  return {{"error", std::move(error)}};
}

std::string dump(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

}  // namespace mblm
