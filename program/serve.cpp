// mblm serve: answers completion requests over HTTP until a signal ends it.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "engine/error.h"
#include "program/interrupt.h"
#include "program/program.h"
#include "serve/http_server.h"

namespace mblm {
namespace {

constexpr const char* loopback = "127.0.0.1";
constexpr std::chrono::milliseconds glance{20};

// The only line of a file, printable ASCII without spaces.
std::string read_key(const std::string& file) {
  std::string key = read_input(file);
  while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.pop_back();
  bool printable = !key.empty();
  for (const char c : key) printable = printable && c > ' ' && c <= '~';
  require<FileError>(printable, file, ": expected a key, one line of printable ASCII without spaces");
  return key;
}

// The last part of the path that names the model, without the file extension.
std::string model_name(const std::string& path) {
  const std::filesystem::path full = std::filesystem::absolute(path).lexically_normal();
  const std::string name = full.has_filename() ? full.filename().string() : full.parent_path().filename().string();
  for (const std::string_view ending : {".safetensors", ".pth"})
    if (name.size() > ending.size() && name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  return name;
}

ServeLimits limits_of(const ServeCommand& command) {
  ServeLimits limits;
  limits.body = static_cast<std::size_t>(command.max_body);
  limits.tokens = command.max_tokens;
  limits.rows = static_cast<std::size_t>(command.max_rows);
  limits.queue = static_cast<std::size_t>(command.max_queue);
  limits.connections = static_cast<std::size_t>(command.max_connections);
  limits.request = std::chrono::seconds(command.timeout);
  limits.receive = std::chrono::seconds(command.receive_timeout);
  return limits;
}

void wait_for_signal(const HttpServer& server) {
  while (InterruptScope::signal() == 0) {
    require(server.running(), "serve: cannot accept connections any more");
    std::this_thread::sleep_for(glance);
  }
}

// Waits until the completions that have begun have been sent. Their time is limited (--timeout).
void finish_completions(HttpServer& server) {
  server.close();
  const std::size_t open = server.open_completions();
  if (open > 0) write_note(concat_text("finishing ", open, open == 1 ? " completion" : " completions", "; a second signal ends at once"));
  while (!server.idle()) std::this_thread::sleep_for(glance);
}

}  // namespace

int run(const ServeCommand& command) {
  require<ValueError>(command.host == loopback || command.api_key_file, "--host: any address other than ", loopback, " requires --api-key-file");
  ServeOptions options;
  if (command.api_key_file) options.api_key = read_key(*command.api_key_file);
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  options.model_name = model_name(command.model.model);
  options.limits = limits_of(command);
  const char* level = std::getenv("MBLM_LOG");
  if (level && std::string_view(level) == "debug") options.on_request = [](const std::string& line) { write_note(line); };

  const InterruptScope interrupt;
  HttpServer server(*model, std::move(options));
  const int port = server.start(command.host, static_cast<int>(command.port));
  const bool is_ipv6 = command.host.find(':') != std::string::npos;
  write_output(concat_text("http://", is_ipv6 ? "[" : "", command.host, is_ipv6 ? "]" : "", ':', port, '\n'));
  wait_for_signal(server);
  const int signal = InterruptScope::signal();
  finish_completions(server);
  return 128 + signal;
}

}  // namespace mblm
