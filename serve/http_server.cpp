#include "serve/http_server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "serve/completion_request.h"
#include "serve/completion_response.h"
#include "serve/connection.h"
#include "serve/metrics.h"
#include "serve/page.h"

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;
using httplib::Request;
using httplib::Response;

constexpr std::size_t longest_head = std::size_t{1} << 16;  // bytes of the request line and the headers
constexpr std::chrono::milliseconds patience{200};          // between looks whether a client has left
constexpr std::chrono::milliseconds between_events{30};     // bytes of a stream that come sooner share an event, which takes time to make and to send
constexpr int backlog = 512;
constexpr const char* json_type = "application/json";
constexpr const char* invalid = "invalid_request_error";

struct Route {
  const char* path;
  const char* method;
  bool is_open;  // needs no key
};
constexpr std::array routes = {Route{"/", "GET", true}, Route{"/health", "GET", true}, Route{"/metrics", "GET", false}, Route{"/v1/models", "GET", false},
                               Route{"/v1/completions", "POST", false}};

const Route* route_of(const std::string& path) {
  const auto found = std::find_if(routes.begin(), routes.end(), [&](const Route& route) { return path == route.path; });
  return found == routes.end() ? nullptr : &*found;
}

std::int64_t unix_time() { return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string new_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string id = "cmpl-";
  for (int i = 0; i < 24; ++i) id += "0123456789abcdef"[random() & 15];
  return id;
}

// The time depends only on the length of `given`, not on where the texts differ: otherwise a client could find a key byte by byte.
bool equal_in_constant_time(const std::string& given, const std::string& expected) {
  unsigned differences = given.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) differences |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(expected[i % expected.size()]);
  return differences == 0;
}

// The host of `example:80` and `[::1]:80`.
std::string without_port(const std::string& authority) {
  if (authority.starts_with("[")) return authority.substr(0, authority.find(']') + 1);
  return authority.substr(0, authority.find(':'));
}

// Names that no other site can make point to this machine.
bool is_local_name(const std::string& host) {
  return host == "localhost" || host.starts_with("[") || (!host.empty() && host.find_first_not_of("0123456789.") == std::string::npos);
}

void answer(Response& response, const RequestError& error) {
  response.status = error.status();
  response.set_content(dump(error_json(error.type(), error.what(), error.field())), json_type);
  if (error.status() == 429) response.set_header("Retry-After", "1");
  if (error.status() == 401) response.set_header("WWW-Authenticate", "Bearer");
  if (error.status() == 504) response.set_header("x-should-retry", "false");  // OpenAI's client would ask again
}

const char* reason_of(Finish finish) { return finish == Finish::Stop ? "stop" : "length"; }

}  // namespace

class HttpServer::Listener : public httplib::Server {
 public:
  Listener(const Model& model, ServeOptions options)
      : model_(model), options_(std::move(options)), scheduler_(model, options_.limits), started_(unix_time()) {
    require<ValueError>(!options_.api_key || !options_.api_key->empty(), "serve: expected a key, got an empty one");
    new_task_queue = [this] { return new ConnectionThreads(options_.limits.connections); };
    // Not SO_REUSEPORT, which is the library's choice: two servers would share a port.
    set_socket_options([](socket_t socket) {
      const int on = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    set_payload_max_length(options_.limits.body);
    set_expect_100_continue_handler([this](const Request& request, Response& response) {
      try {
        check(request);
        return 100;
      } catch (const RequestError& error) {
        answer(response, error);
        current_client().close_after_answer();
        return error.status();
      }
    });
    set_pre_routing_handler([this](const Request& request, Response& response) { return route(request, response); });
    set_error_handler([](const Request&, Response& response) {
      if (response.body.empty()) answer(response, RequestError(response.status, invalid, response.status == 414 ? "the address is too long" : "not a valid HTTP request"));
    });
    set_exception_handler([](const Request&, Response& response, std::exception_ptr exception) {
      current_client().close_after_answer();
      try {
        std::rethrow_exception(exception);
      } catch (const RequestError& error) {
        answer(response, error);
      } catch (const std::exception& error) {
        answer(response, RequestError(500, "server_error", error.what()));
      }
    });
    set_post_routing_handler([](const Request&, Response& response) {
      response.headers.erase("Keep-Alive");
      response.set_header("X-Content-Type-Options", "nosniff");
      if (!current_client().closes()) return;
      response.headers.erase("Connection");
      response.set_header("Connection", "close");
    });
    set_logger([this](const Request& request, const Response& response) { log(request, response); });
    Post("/v1/completions", [this](const Request& request, Response& response, const httplib::ContentReader& reader) { complete(request, response, reader); });
  }

  ~Listener() override {
    ends_ = true;
    if (is_running()) httplib::Server::stop();
    if (thread_.joinable()) thread_.join();
  }

  int start(const std::string& host, int port) {
    errno = 0;
    const int bound = port == 0 ? bind_to_any_port(host) : bind_to_port(host, port) ? port : -1;
    require(bound > 0, "cannot listen on ", host, " port ", port, errno != 0 ? std::string(": ") + std::strerror(errno) : "");
    ::listen(svr_sock_, backlog);  // the library's is 5
    thread_ = std::thread([this] {
      listen_after_bind();
      is_listening_ = false;
    });
    while (!is_running() && is_listening_) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // stop() does nothing before
    return bound;
  }

  bool running() const { return is_listening_; }
  void close() {
    closing_ = true;
    scheduler_.close();
  }
  std::size_t open_completions() const { return open_completions_; }
  bool idle() const { return open_completions_ == 0 && scheduler_.idle(); }
  SchedulerCounts counts() const { return scheduler_.counts(); }

 private:
  // Counts a completion until its answer has been sent.
  struct Open {
    explicit Open(std::atomic<std::size_t>& all) : count(all) { ++count; }
    ~Open() { --count; }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    std::atomic<std::size_t>& count;
  };

  bool process_and_close_socket(socket_t socket) override {
    ClientStream client(socket, options_.limits.receive, closing_);
    const CurrentClient current(client);
    if (ConnectionThreads::refusing()) {
      const std::string body = dump(error_json("server_error", "too many connections"));
      const std::string text = concat_text("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
      client.answer_until(Clock::now() + std::chrono::milliseconds(50));  // a new socket takes it at once
      client.write(text.data(), text.size());
      return false;
    }
    bool goes_on = true;
    while (goes_on && !ends_ && client.await_request()) {
      bool closed = false, has_head = false;
      client.expect(longest_head);
      const auto begin_body = [&](Request& request) {
        has_head = true;
        request.ranges.clear();  // nothing here has ranges, and no answer is compressed
        request.headers.erase("Accept-Encoding");
        client.answer_until(client.request_start() + options_.limits.request + options_.limits.receive);
        client.expect(8 * options_.limits.body + longest_head);  // with the overhead of chunks
      };
      try {
        goes_on = process_request(client, false, closed, begin_body);
      } catch (const std::exception&) {  // such as no memory
        goes_on = false;
      }
      if (!has_head) client.close_after_answer();
      goes_on = goes_on && !closed && !client.closes() && client.is_writable();
    }
    return goes_on;
  }

  // What can be said before the body is read.
  void check(const Request& request) const {
    const Route* route = route_of(request.path);
    const bool post = request.method == "POST";
    const std::string host = request.get_header_value("Host"), origin = request.get_header_value("Origin");
    // A page of another site must not use this server through the browser of somebody who may.
    if (!origin.empty() && !origin.ends_with("://" + host)) throw RequestError(403, "permission_error", "requests of other sites are refused");
    if (!options_.api_key && !host.empty() && !is_local_name(without_port(host)))
      throw RequestError(403, "permission_error", "expected an address or localhost as the name of the host");
    if (!route) throw RequestError(404, "not_found_error", "there is nothing at " + shown_text(request.path));
    if (options_.api_key && !route->is_open) {
      const std::string given = request.get_header_value("Authorization");
      constexpr std::string_view scheme = "Bearer ";
      if (!given.starts_with(scheme) || !equal_in_constant_time(given.substr(scheme.size()), *options_.api_key))
        throw RequestError(401, "authentication_error", "expected the header Authorization: Bearer KEY with the server's key");
    }
    if (request.method != route->method && !(request.method == "HEAD" && !post && std::string_view(route->method) == "GET"))
      throw RequestError(405, invalid, concat_text("expected ", route->method, " for ", route->path));
    const bool has_length = request.has_header("Content-Length"), has_coding = request.has_header("Transfer-Encoding");
    if (!post) {
      if (has_coding || request.get_header_value("Content-Length", 0).find_first_not_of('0') != std::string::npos) current_client().close_after_answer();
      return;
    }
    if (has_coding && (has_length || request.get_header_value("Transfer-Encoding") != "chunked")) throw RequestError(400, invalid, "expected either Content-Length or Transfer-Encoding: chunked");
    if (!has_coding && !has_length) throw RequestError(411, invalid, "expected a Content-Length");
    if (has_length) {
      const std::string length = request.get_header_value("Content-Length");
      if (length.empty() || length.find_first_not_of("0123456789") != std::string::npos || request.get_header_value_count("Content-Length") > 1)
        throw RequestError(400, invalid, "Content-Length: expected a number");
      if (length.size() > 18 || std::stoull(length) > options_.limits.body) throw too_long();
    }
    if (request.is_multipart_form_data()) throw RequestError(415, invalid, "expected a body of type application/json");
  }

  RequestError too_long() const { return {413, invalid, concat_text("expected a body of at most ", options_.limits.body, " bytes")}; }

  HandlerResponse route(const Request& request, Response& response) {
    try {
      check(request);
    } catch (const RequestError& error) {
      current_client().close_after_answer();  // the body, if any, has not been read
      answer(response, error);
      return HandlerResponse::Handled;
    }
    if (request.path == "/v1/completions") return HandlerResponse::Unhandled;
    response.status = 200;
    if (request.path == "/") {
      response.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'");
      response.set_content(page, "text/html; charset=utf-8");
    } else if (request.path == "/health") {
      if (closing_) response.status = 503;
      response.set_content(closing_ ? R"({"status":"shutting down"})" : R"({"status":"ok"})", json_type);
    } else if (request.path == "/metrics") {
      response.set_content(metrics_.text(scheduler_.counts(), open_completions_), "text/plain; version=0.0.4");
    } else {
      const ModelConfig& config = model_.config();
      OrderedJson model = {{"id", options_.model_name}, {"object", "model"}, {"created", started_}, {"owned_by", "mblm"}, {"context", config.context()},
                           {"fixed_context", config.fixed_context()}, {"max_tokens", options_.limits.tokens}};
      OrderedJson list = {{"object", "list"}};
      list["data"] = OrderedJson::array({std::move(model)});
      response.set_content(dump(list), json_type);
    }
    return HandlerResponse::Handled;
  }

  std::string read_body(const httplib::ContentReader& reader, Response& response) const {
    std::string body;
    bool fits = true;
    const bool complete = reader([&](const char* bytes, std::size_t count) {
      fits = count <= options_.limits.body - body.size();
      if (fits) body.append(bytes, count);
      return fits;
    });
    if (complete) return body;
    const int status = std::exchange(response.status, -1);
    if (!fits || current_client().exceeded()) throw too_long();
    if (current_client().timed_out()) throw RequestError(408, invalid, "the body took too long");
    throw RequestError(status == 415 ? 415 : 400, invalid, "the body cannot be read");
  }

  // Everything about a completion that its answer needs.
  struct Completion {
    Completion(CompletionRequest wanted, std::atomic<std::size_t>& open_completions) : open(open_completions), request(std::move(wanted)) {
      for (const Task& task : request.tasks) {
        usage.prompt += std::ssize(task.prompt);
        for (std::size_t k = 0; k < task.continuations; ++k) {
          choices.emplace_back(choices.size(), request.log_probabilities);
          if (!request.echo || task.score_prompt) continue;
          std::vector<ScoredId> prompt;
          for (const std::int64_t id : task.prompt) prompt.push_back({id});
          choices.back().add(prompt);
        }
      }
    }

    // Adds what is new. Throws RequestError if something failed.
    void add(const std::vector<Progress>& news) {
      for (const Progress& progress : news) {
        if (progress.finish == Finish::Failed) throw RequestError(500, "server_error", progress.error);
        if (progress.finish == Finish::TimedOut) throw RequestError(504, "timeout_error", "the completion took too long");
        ChoiceText& choice = choices[progress.choice];
        choice.add(progress.prompt);
        choice.add(progress.ids);
        usage.completion += progress.generated;
        if (progress.finish) choice.finish(reason_of(*progress.finish));
      }
    }

    OrderedJson take() {
      OrderedJson list = OrderedJson::array();
      for (ChoiceText& choice : choices)
        if (choice.has_news()) list.push_back(choice.take());
      return list;
    }

    const Open open;
    CompletionRequest request;  // without tasks once they have been submitted
    const std::string id = new_id();
    const std::int64_t created = unix_time();
    Usage usage;
    std::vector<ChoiceText> choices;
    std::unique_ptr<Submission> submission;
  };

  void complete(const Request& http, Response& response, const httplib::ContentReader& reader) {
    const std::string body = read_body(reader, response);
    std::shared_ptr<Completion> completion;
    try {
      completion = begin(body);
    } catch (const RequestError& error) {
      answer(response, error);
      return;
    }
    if (completion->request.stream) {
      stream(http, response, std::move(completion));
    } else {
      respond(response, *completion);
    }
  }

  std::shared_ptr<Completion> begin(const std::string& body) {
    const auto completion = std::make_shared<Completion>(parse_completion_request(body, model_.config(), options_.model_name, options_.limits), open_completions_);
    try {
      completion->submission = scheduler_.submit(std::exchange(completion->request.tasks, {}), current_client().request_start() + options_.limits.request);
    } catch (const BusyError& error) {
      throw RequestError(429, "rate_limit_error", error.what());
    } catch (const ClosingError& error) {
      throw RequestError(503, "server_error", error.what());
    } catch (const ValueError& error) {
      throw RequestError(400, invalid, error.what());
    }
    return completion;
  }

  void refuse_at_end() const {
    if (ends_) throw RequestError(503, "server_error", "the server was shut down");
  }

  void respond(Response& response, Completion& completion) {
    try {
      while (!completion.submission->finished()) {
        completion.add(completion.submission->wait(patience, true));
        refuse_at_end();
        if (current_client().client_left()) {
          current_client().close_after_answer();
          throw RequestError(499, invalid, "the client has left");
        }
      }
    } catch (const RequestError& error) {
      answer(response, error);
      return;
    }
    OrderedJson choices = completion.take();
    response.set_content(dump(completion_json(completion.id, completion.created, options_.model_name, std::move(choices), completion.usage)), json_type);
  }

  // Server-sent events: `data: {...}` for what is new, at the end `data: [DONE]`.
  void stream(const Request& http, Response& response, std::shared_ptr<Completion> completion) {
    response.set_header("Cache-Control", "no-store");
    response.set_header("X-Accel-Buffering", "no");
    if (http.version == "HTTP/1.0") {  // has no chunks
      current_client().close_after_answer();
      response.set_content_provider("text/event-stream", [this, completion](std::size_t, httplib::DataSink& sink) { return send_events(*completion, sink); });
    } else {
      response.set_chunked_content_provider("text/event-stream", [this, completion](std::size_t, httplib::DataSink& sink) { return send_events(*completion, sink); });
    }
  }

  // Returns false if the client has left.
  bool send_events(Completion& completion, httplib::DataSink& sink) {
    const auto send = [&](const std::string& data) {
      const std::string event = "data: " + data + "\n\n";
      return sink.write(event.data(), event.size());
    };
    const auto part = [&](OrderedJson choices, const std::optional<Usage>& usage) {
      return send(dump(completion_json(completion.id, completion.created, options_.model_name, std::move(choices), usage)));
    };
    try {
      while (!completion.submission->finished()) {
        completion.add(completion.submission->wait(patience));
        refuse_at_end();
        OrderedJson choices = completion.take();
        if (choices.empty()) {
          if (current_client().client_left()) return false;
          continue;
        }
        if (!part(std::move(choices), {})) return false;
        std::this_thread::sleep_for(between_events);
      }
      if (completion.request.stream_usage && !part(OrderedJson::array(), completion.usage)) return false;
    } catch (const RequestError& error) {
      if (!send(dump(error_json(error.type(), error.what())))) return false;
    }
    if (!send("[DONE]")) return false;
    sink.done();
    return true;
  }

  void log(const Request& request, const Response& response) {
    const std::chrono::duration<double> time = Clock::now() - current_client().request_start();
    const Route* route = route_of(request.path);
    metrics_.add_request(route ? route->path : "other", response.status, time);
    if (options_.on_request) options_.on_request(concat_text(shown_text(request.method), ' ', shown_text(request.path), ' ', response.status, ' ', time.count(), " s"));
  }

  const Model& model_;
  const ServeOptions options_;
  Metrics metrics_;
  std::atomic<bool> closing_ = false, ends_ = false, is_listening_ = true;
  std::atomic<std::size_t> open_completions_ = 0;
  Scheduler scheduler_;
  const std::int64_t started_;
  std::thread thread_;
};

HttpServer::HttpServer(const Model& model, ServeOptions options) : listener_(std::make_unique<Listener>(model, std::move(options))) {}

HttpServer::~HttpServer() { close(); }

int HttpServer::start(const std::string& host, int port) { return listener_->start(host, port); }
bool HttpServer::running() const { return listener_->running(); }
void HttpServer::close() { listener_->close(); }
bool HttpServer::idle() const { return listener_->idle(); }
std::size_t HttpServer::open_completions() const { return listener_->open_completions(); }
SchedulerCounts HttpServer::counts() const { return listener_->counts(); }

}  // namespace mblm
