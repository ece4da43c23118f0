// Completions of a model over HTTP, in the form of OpenAI's API.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "mblm/model.h"
#include "serve/serve_limits.h"
#include "serve/scheduler.h"

namespace mblm {

struct ServeOptions {
  std::string model_name = "mblm";
  std::optional<std::string> api_key{};  // that clients must send ("Authorization: Bearer KEY"), except for / and /health
  ServeLimits limits{};
  std::function<void(const std::string&)> on_request{};  // called with one line per request, from several threads
};

// Answers POST /v1/completions, GET /v1/models, /health, /metrics and /. The model must outlive the server. Signals must not reach the
// threads that the server starts (InterruptScope).
class HttpServer {
 public:
  // Throws ValueError for a masked language model.
  HttpServer(const Model& model, ServeOptions options);
  ~HttpServer();  // ends everything
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds to an address; port 0 chooses a free one. Starts to serve in the background and returns the port. Throws Error if the address
  // cannot be used.
  int start(const std::string& host, int port);
  bool running() const;

  // Refuses new completions (503). Those that have begun go on.
  void close();
  // Whether all completions have been sent.
  bool idle() const;
  std::size_t open_completions() const;
  SchedulerCounts counts() const;

 private:
  class Listener;
  const std::unique_ptr<Listener> listener_;
};

}  // namespace mblm
