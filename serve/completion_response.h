// The answers of /v1/completions as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "mblm/utf8.h"
#include "serve/submission.h"

namespace mblm {

using OrderedJson = nlohmann::ordered_json;

// The text of a choice, in one or more parts. A part ends with a complete character, so that each is well-formed UTF-8; bytes that are no
// UTF-8 appear as U+FFFD in `text` and as they are in `text_base64`. Ids above 255 are in neither.
class ChoiceText {
 public:
  ChoiceText(std::size_t index, bool log_probabilities);

  void add(std::span<const ScoredId> ids);
  // `reason` is finish_reason: "length" or "stop". Completes the text.
  void finish(const std::string& reason);

  // Whether anything has been added since the last part.
  bool has_news() const { return !text_.empty() || !log_probabilities_["tokens"].empty() || reason_; }
  // What has been added since the last part: {"text", "index", "logprobs", "finish_reason", "text_base64"}.
  OrderedJson take();

 private:
  void clear();

  const std::size_t index_;
  const bool with_log_probabilities_;
  Utf8Decoder decoder_;
  std::string text_, bytes_;       // of this part; bytes_ may end with an incomplete character
  std::int64_t characters_ = 0;    // of all parts
  OrderedJson log_probabilities_;  // of this part
  std::optional<std::string> reason_;
};

// The token of an id: a character of ASCII, else `bytes:\x80`, or `id:256` above 255.
std::string token_text(std::int64_t id);

struct Usage {
  std::int64_t prompt = 0, completion = 0;  // bytes
  OrderedJson json() const;
};

// A response, or a part of one: `choices` is a list.
OrderedJson completion_json(const std::string& id, std::int64_t created, const std::string& model, OrderedJson choices, const std::optional<Usage>& usage);
// {"error": {"message", "type", "param", "code"}}
OrderedJson error_json(const std::string& type, const std::string& message, const std::string& field = {});
// JSON as text that is ASCII or UTF-8.
std::string dump(const OrderedJson& json);

}  // namespace mblm
