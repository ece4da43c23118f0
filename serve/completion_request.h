// The body of a POST to /v1/completions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.h"
#include "mblm/config/config.h"
#include "serve/serve_limits.h"
#include "serve/submission.h"

namespace mblm {

// An answer with a status other than 200. `type` and `field` are those of the error object.
class RequestError : public Error {
 public:
  RequestError(int status, const std::string& type, const std::string& message, const std::string& field = {})
      : Error(message), status_(status), type_(type), field_(field) {}
  int status() const { return status_; }
  const std::string& type() const { return type_; }
  const std::string& field() const { return field_; }  // empty: none

 private:
  int status_;
  std::string type_, field_;
};

// The fields are those of OpenAI's API, with top_k, min_p, repetition_penalty, stop_token_ids and prompt_base64; README.md describes them.
struct CompletionRequest {
  std::vector<Task> tasks;  // one per prompt
  bool stream = false, stream_usage = false;
  bool echo = false;        // the text begins with the prompt
  bool log_probabilities = false;
};

// Throws RequestError, which names the field, for what is not JSON, not a known field, of the wrong type or out of range. `model` is the
// name that the server gives to its model.
CompletionRequest parse_completion_request(std::string_view body, const ModelConfig& config, const std::string& model, const ServeLimits& limits);

}  // namespace mblm
