// mblm serve as a user runs it.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <thread>

#include "engine/error.h"
#include "tests/raw_client.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

using namespace std::chrono_literals;

// A server that runs, once it accepts connections.
class ServingProgram {
 public:
  explicit ServingProgram(const std::vector<std::string>& options = {}) {
    save_tiny_model(folder_ / "tiny.safetensors", tiny_model);
    std::vector<std::string> arguments{"serve", folder_ / "tiny.safetensors", "--port", "0"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    std::array<int, 2> pipe{};
    require(::pipe(pipe.data()) == 0, "pipe");
    program_ = std::make_unique<RunningProgram>(arguments, "", pipe[1]);
    ::close(pipe[1]);
    std::string line;
    for (char c = 0; ::read(pipe[0], &c, 1) == 1 && c != '\n';) line += c;
    ::close(pipe[0]);
    address_ = line;
    if (!line.empty()) port_ = std::stoi(line.substr(line.rfind(':') + 1));
  }

  const std::string& address() const { return address_; }
  int port() const { return port_; }
  RunningProgram& program() { return *program_; }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<RunningProgram> program_;
  std::string address_;
  int port_ = 0;
};

std::string stream_of(int tokens) { return post_text("/v1/completions", concat_text(R"({"prompt": "a", "max_tokens": )", tokens, R"(, "stream": true})")); }

}  // namespace

TEST_CASE("serve prints its address, answers, and ends by a signal after what has begun") {
  for (const auto& [signal, status] : {std::pair{SIGTERM, 143}, std::pair{SIGINT, 130}}) {
    ServingProgram serving({"--max-tokens", "100000"});
    CHECK(serving.address().starts_with("http://127.0.0.1:"));
    REQUIRE(serving.port() > 0);
    RawClient models(serving.port());
    models.send("GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n");
    CHECK(models.read_all().find("\"id\":\"tiny\"") != std::string::npos);
    RawClient stream(serving.port()), idle(serving.port());
    stream.send(stream_of(15000));
    CHECK(stream.read_until("data: ").find("200 OK") != std::string::npos);
    serving.program().send(signal);
    std::this_thread::sleep_for(100ms);
    if (!serving.program().ended()) {
      RawClient late(serving.port());
      late.send(stream_of(1));
      const std::string answer = late.read_all(20);
      CHECK((answer.find(" 503 ") != std::string::npos || serving.program().ended()));
    }
    const std::string rest = stream.read_until("data: [DONE]", 60);
    CHECK(rest.find("\"finish_reason\":\"length\"") != std::string::npos);
    CHECK(rest.find("data: [DONE]") != std::string::npos);
    const ProgramResult result = serving.program().wait();
    CHECK(result.status == status);
    CHECK(result.err.find("finishing 1 completion") != std::string::npos);
  }
}

TEST_CASE("a second signal ends serve at once") {
  ServingProgram serving({"--max-tokens", "1000000"});
  RawClient stream(serving.port());
  stream.send(stream_of(1000000));
  stream.read_until("data: ");
  serving.program().send(SIGTERM);
  std::this_thread::sleep_for(200ms);
  CHECK_FALSE(serving.program().ended());
  serving.program().send(SIGTERM);
  CHECK(serving.program().wait().status == 143);
}

TEST_CASE("serve obeys its limits") {
  ServingProgram serving({"--max-tokens", "5", "--max-body", "100"});
  RawClient client(serving.port());
  client.send(stream_of(6));
  CHECK(client.read_until("}}").find("max_tokens: expected an integer in [0, 5]") != std::string::npos);
  client.send(post_text("/v1/completions", std::string(101, ' ')));
  CHECK(client.read_until("}}").find(" 413 ") != std::string::npos);
}

TEST_CASE("other addresses than 127.0.0.1 require a key") {
  TemporaryFolder folder;
  const std::string model = folder / "tiny.safetensors";
  save_tiny_model(model, tiny_model);
  for (const char* host : {"0.0.0.0", "localhost", "::", "example.com"}) {
    const ProgramResult result = run_program({"serve", model, "--host", host});
    CHECK(result.status == 1);
    CHECK(result.err.find("--host") != std::string::npos);
    CHECK(result.err.find("--api-key-file") != std::string::npos);
    CHECK(result.out.empty());
  }
  folder.write("key", "secret\n");
  ServingProgram serving({"--host", "0.0.0.0", "--api-key-file", folder / "key"});
  CHECK(serving.address().starts_with("http://0.0.0.0:"));
  RawClient client(serving.port());
  client.send(stream_of(3));
  CHECK(client.read_until("}}").find(" 401 ") != std::string::npos);
  RawClient allowed(serving.port());
  allowed.send(post_text("/v1/completions", R"({"prompt": "a", "max_tokens": 3, "stream": true})", "Authorization: Bearer secret\r\n"));
  CHECK(allowed.read_until("[DONE]").find("200 OK") != std::string::npos);
}

TEST_CASE("what is wrong with a command line of serve is one line") {
  TemporaryFolder folder;
  const std::string model = folder / "tiny.safetensors";
  save_tiny_model(model, tiny_model);
  folder.write("empty", "\n");
  folder.write("two", "one\ntwo\n");
  folder.write("space", "one two\n");
  const auto refused = [&](const std::vector<std::string>& options, int status, const std::string& part) {
    std::vector<std::string> arguments{"serve", model};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProgramResult result = run_program(arguments);
    CAPTURE(result.err);
    CHECK(result.status == status);
    CHECK(result.err.find(part) != std::string::npos);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  };
  for (const char* file : {"empty", "two", "space"}) refused({"--api-key-file", folder / file}, 1, "expected a key");
  refused({"--api-key-file", folder / "missing"}, 1, "missing");
  refused({"--port", "70000"}, 2, "--port");
  refused({"--port", "-1"}, 2, "--port");
  refused({"--max-rows", "0"}, 2, "--max-rows");
  refused({"--max-tokens", "many"}, 2, "--max-tokens");
  refused({"--timeout", "0"}, 2, "--timeout");
  ServingProgram first;
  refused({"--port", std::to_string(first.port())}, 1, "cannot listen");
  const ProgramResult none = run_program({"serve", folder / "none.safetensors"});
  CHECK(none.status == 1);
  CHECK(none.err.find("none.safetensors") != std::string::npos);
}

}  // namespace mblm::testing
