// The HTTP server over real sockets: answers, streams, refusals, and clients that misbehave.
#include <doctest/doctest.h>

#include <httplib.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "serve/base64.h"
#include "serve/http_server.h"
#include "tests/raw_client.h"
#include "tests/serve_model.h"

namespace mblm::testing {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

template <class Condition>
bool becomes_true(Condition condition, std::chrono::seconds patience = 60s) {
  const Clock::time_point end = Clock::now() + patience;
  while (!condition() && Clock::now() < end) std::this_thread::sleep_for(5ms);
  return condition();
}

// A server on a free port, for the length of a test.
struct Served {
  explicit Served(ServeOptions options = {}, const char* config = tiny_model) : model(served_model(config)), server(*model, std::move(options)), port(server.start("127.0.0.1", 0)) {}
  Served(ServeLimits limits) : Served(ServeOptions{.limits = limits}) {}

  httplib::Client client() const {
    httplib::Client one("127.0.0.1", port);
    one.set_read_timeout(60s);
    one.set_keep_alive(true);
    one.set_tcp_nodelay(true);
    return one;
  }
  httplib::Result post(const Json& body) const { return client().Post("/v1/completions", body.dump(), "application/json"); }
  Json completion(const Json& body) const {
    const httplib::Result result = post(body);
    REQUIRE(result);
    CAPTURE(result->body);
    REQUIRE(result->status == 200);
    return Json::parse(result->body);
  }

  std::unique_ptr<Model> model;
  HttpServer server;
  int port;
};

// Status, and the message of the error.
std::pair<int, std::string> error_of(const httplib::Result& result) {
  REQUIRE(result);
  const Json json = Json::parse(result->body);
  CHECK(json["error"]["type"].is_string());
  return {result->status, json["error"]["message"].get<std::string>()};
}

// The events of a stream.
std::vector<Json> events_of(const std::string& body) {
  std::vector<Json> events;
  const std::string mark = "data: ", end = "data: [DONE]\n\n";
  CHECK(body.ends_with(end));
  for (std::size_t at = 0; at + end.size() < body.size();) {
    REQUIRE(body.compare(at, mark.size(), mark) == 0);
    const std::size_t stop = body.find("\n\n", at);
    events.push_back(Json::parse(body.substr(at + mark.size(), stop - at - mark.size())));
    at = stop + 2;
  }
  return events;
}

std::string decoded(const Json& base64) { return from_base64(base64.get<std::string>()).value(); }

Task task_of(const std::string& prompt, std::int64_t count, std::uint64_t seed) {
  Task task;
  task.prompt = ids_of(prompt);
  task.count = count;
  task.sampling = {.temperature = 1, .seed = seed};
  return task;
}

Json request_of(const Task& task) {
  return {{"prompt_base64", to_base64(bytes_of(task.prompt))}, {"max_tokens", task.count}, {"seed", task.sampling.seed}, {"temperature", task.sampling.temperature}};
}

std::size_t resident_pages() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

bool runs_long() { return std::getenv("MBLM_LONG") != nullptr; }

}  // namespace

TEST_CASE("a completion has the bytes that the model generates alone") {
  const Served served;
  const Task task = task_of("the ships \xff", 40, 3);
  const Json json = served.completion(request_of(task));
  const Alone expected = alone(*served.model, task);
  CHECK(json["object"] == "text_completion");
  CHECK(json["id"].get<std::string>().starts_with("cmpl-"));
  CHECK(json["created"].is_number_integer());
  CHECK(json["model"] == "mblm");
  REQUIRE(json["choices"].size() == 1);
  const Json& choice = json["choices"][0];
  CHECK(choice["index"] == 0);
  CHECK(choice["finish_reason"] == "length");
  CHECK(choice["logprobs"].is_null());
  CHECK(decoded(choice["text_base64"]) == bytes_of(expected.ids));
  CHECK(json["usage"] == Json({{"prompt_tokens", 11}, {"completion_tokens", 40}, {"total_tokens", 51}}));
}

TEST_CASE("a stop text ends a completion and is not returned") {
  const Served served;
  std::size_t stops = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    Task task = task_of("stop", 300, seed);
    task.stop = {"a", "B", "\n"};
    Json request = request_of(task);
    request["stop"] = task.stop;
    const Json choice = served.completion(request)["choices"][0];
    const Alone expected = alone(*served.model, task);
    CHECK(decoded(choice["text_base64"]) == bytes_of(expected.ids));
    CHECK(choice["finish_reason"] == (expected.finish == Finish::Stop ? "stop" : "length"));
    stops += expected.finish == Finish::Stop;
  }
  CHECK(stops > 0);
}

TEST_CASE("the events of a stream are the completion in parts") {
  const Served served;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Json request = request_of(task_of("the sea", 120, seed));
    request["n"] = 2;
    const Json whole = served.completion(request);
    request["stream"] = true;
    request["stream_options"] = {{"include_usage", true}};
    const httplib::Result result = served.post(request);
    REQUIRE(result);
    CHECK(result->get_header_value("Content-Type") == "text/event-stream");
    const std::vector<Json> events = events_of(result->body);
    REQUIRE(events.size() >= 3);
    CHECK(events.back()["choices"].empty());
    CHECK(events.back()["usage"] == whole["usage"]);
    std::vector<std::string> texts(2), bytes(2);
    std::vector<int> ends(2);
    for (const Json& event : events) {
      CHECK(event["id"] == events[0]["id"]);
      for (const Json& choice : event["choices"]) {
        const auto index = choice["index"].get<std::size_t>();
        CHECK(ends.at(index) == 0);
        texts.at(index) += choice["text"].get<std::string>();
        bytes.at(index) += decoded(choice["text_base64"]);
        ends[index] += choice["finish_reason"] == "length";
      }
    }
    for (std::size_t n = 0; n < 2; ++n) {
      CHECK(texts[n] == whole["choices"][n]["text"].get<std::string>());
      CHECK(bytes[n] == decoded(whole["choices"][n]["text_base64"]));
      CHECK(ends[n] == 1);
    }
  }
}

TEST_CASE("several prompts and continuations are numbered in order") {
  const Served served;
  const Json json = served.completion({{"prompt", {"one", "two"}}, {"n", 2}, {"max_tokens", 9}, {"seed", 5}, {"temperature", 1}});
  REQUIRE(json["choices"].size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(json["choices"][i]["index"] == i);
    CHECK(decoded(json["choices"][i]["text_base64"]) == bytes_of(alone(*served.model, task_of(i < 2 ? "one" : "two", 9, 5), i % 2).ids));
  }
  CHECK(json["usage"]["completion_tokens"] == 36);
}

TEST_CASE("echo with log-probabilities scores the prompt") {
  const Served served;
  const std::string prompt = "went out";
  const Json choice = served.completion({{"prompt", prompt}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 0}})["choices"][0];
  CHECK(choice["text"] == prompt);
  CHECK(choice["finish_reason"] == "length");
  REQUIRE(choice["logprobs"]["tokens"].size() == prompt.size());
  Generator generator(*served.model);
  const Generator::Row row = generator.join();
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    const std::int64_t id = ids_of(prompt)[i];
    CHECK(choice["logprobs"]["tokens"][i] == std::string(1, prompt[i]));
    CHECK(choice["logprobs"]["token_logprobs"][i] == log_probability(generator.logits(row), id));
    CHECK(choice["logprobs"]["text_offset"][i] == i);
    CHECK(choice["logprobs"]["top_logprobs"][i].size() >= 2);
    generator.feed(row, std::span(&id, 1));
  }
  const Json echoed = served.completion({{"prompt", prompt}, {"echo", true}, {"max_tokens", 4}, {"seed", 1}});
  CHECK(decoded(echoed["choices"][0]["text_base64"]) == prompt + bytes_of(alone(*served.model, task_of(prompt, 4, 1)).ids));
}

TEST_CASE("models, health, metrics and the page") {
  const Served served;
  httplib::Client client = served.client();
  const Json models = Json::parse(client.Get("/v1/models")->body);
  CHECK(models["data"][0]["id"] == "mblm");
  CHECK(models["data"][0]["context"] == 32);
  CHECK(client.Get("/health")->status == 200);
  served.completion({{"prompt", "abc"}, {"max_tokens", 10}});
  std::string metrics = client.Get("/metrics")->body;
  CHECK(metrics.find("\nmblm_prompt_bytes_total 3\n") != std::string::npos);
  CHECK(metrics.find("\nmblm_generated_bytes_total 10\n") != std::string::npos);
  CHECK(becomes_true([&] {
    metrics = client.Get("/metrics")->body;
    return metrics.find("mblm_http_requests_total{path=\"/v1/completions\",status=\"200\"} 1\n") != std::string::npos;
  }));
  for (std::size_t at = 0; at < metrics.size();) {  // every line is a comment or `name[{labels}] number`
    const std::string line = metrics.substr(at, metrics.find('\n', at) - at);
    at += line.size() + 1;
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) continue;
    CAPTURE(line);
    CHECK_NOTHROW(static_cast<void>(std::stod(line.substr(line.rfind(' ')))));
  }
  const auto page = client.Get("/");
  CHECK(page->get_header_value("Content-Type") == "text/html; charset=utf-8");
  CHECK(page->body.find("<textarea") != std::string::npos);
  CHECK(page->body.find("http:") == std::string::npos);  // nothing is loaded from elsewhere
  CHECK(page->body.find("https:") == std::string::npos);
  CHECK(client.Head("/health")->body.empty());
  httplib::Headers range{{"Range", "bytes=0-3"}, {"Accept-Encoding", "gzip"}};
  CHECK(client.Get("/health", range)->body == client.Get("/health")->body);
}

TEST_CASE("requests that are refused") {
  ServeLimits limits;
  limits.body = 1000;
  limits.tokens = 50;
  limits.receive = 1s;
  const Served served(limits);
  httplib::Client client = served.client();
  const auto post = [&](const std::string& body, const httplib::Headers& headers = {}) { return client.Post("/v1/completions", headers, body, "application/json"); };
  CHECK(error_of(post("{\"prompt\": 1}")) == std::pair(400, std::string("prompt: expected a string, a list of strings, or ids, got 1")));
  CHECK(error_of(post("no")).first == 400);
  CHECK(error_of(post(R"({"prompt": "a", "model": "other"})")).first == 404);
  CHECK(error_of(client.Get("/v1/completions")).first == 405);
  CHECK(error_of(client.Post("/v1/models", "{}", "application/json")).first == 405);
  CHECK(error_of(client.Delete("/health")).first == 405);
  CHECK(error_of(client.Get("/none")).first == 404);
  CHECK(error_of(client.Post("/none", std::string(100'000, 'x'), "text/plain")).first == 404);
  CHECK(error_of(post(std::string(1001, ' '))).first == 413);
  CHECK(error_of(post(std::string(3'000'000, ' '))).first == 413);
  CHECK(error_of(post("{}", {{"Origin", "http://evil.example"}})).first == 403);
  CHECK(error_of(post("{}", {{"Origin", "null"}})).first == 403);
  CHECK(error_of(client.Get("/health", httplib::Headers{{"Host", "evil.example"}})).first == 403);
  CHECK(client.Get("/health", httplib::Headers{{"Host", "localhost:80"}})->status == 200);
  CHECK(client.Get("/health", httplib::Headers{{"Host", "[::1]:80"}, {"Origin", "http://[::1]:80"}})->status == 200);
  const httplib::MultipartFormDataItems items{{"prompt", "a", "", ""}};
  CHECK(error_of(client.Post("/v1/completions", items)).first == 415);

  const auto answer = [&](const std::string& text) { RawClient raw(served.port); raw.send(text); return raw.read_all(5).substr(0, 12); };
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == "HTTP/1.1 411");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nContent-Length: 5x\r\n\r\n") == "HTTP/1.1 400");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n") == "HTTP/1.1 400");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n") == "HTTP/1.1 413");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}") == "HTTP/1.1 400");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n") == "HTTP/1.1 413");
  // A body in chunks that is too long, one that never ends, and one in a coding that grows.
  std::string chunks = "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 40; ++i) chunks += "20\r\n" + std::string(32, ' ') + "\r\n";
  CHECK(answer(chunks + "0\r\n\r\n") == "HTTP/1.1 413");
  CHECK(answer("POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}") == "HTTP/1.1 408");
  CHECK(answer("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n\r\n") == "HTTP/1.1 414");
  CHECK(answer("GET /health HTTP/1.1\r\nRange: bytes=" + [] { std::string all; for (int i = 0; i < 900; ++i) all += "1-2,"; return all; }() + "1-2\r\n\r\n").starts_with("HTTP/1.1"));
  // All of this left the server as it was.
  CHECK(decoded(served.completion(request_of(task_of("a", 8, 1)))["choices"][0]["text_base64"]) == bytes_of(alone(*served.model, task_of("a", 8, 1)).ids));
}

TEST_CASE("a key") {
  ServeOptions options;
  options.api_key = "secret";
  const Served served(std::move(options));
  httplib::Client client = served.client();
  CHECK(client.Get("/health")->status == 200);
  CHECK(client.Get("/")->status == 200);
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer secretsecret", "Bearer SECRET", "Basic secret", "secret"}) {
    CAPTURE(wrong);
    const httplib::Headers headers{{"Authorization", wrong}};
    CHECK(error_of(client.Get("/v1/models", headers)).first == 401);
    CHECK(error_of(client.Get("/metrics", headers)).first == 401);
    CHECK(error_of(client.Post("/v1/completions", headers, "{}", "application/json")).first == 401);
  }
  CHECK(error_of(client.Get("/v1/models")).first == 401);
  const httplib::Headers headers{{"Authorization", "Bearer secret"}, {"Host", "models.example"}};
  CHECK(client.Get("/v1/models", headers)->status == 200);
  CHECK(client.Post("/v1/completions", headers, R"({"prompt": "a"})", "application/json")->status == 200);
}

TEST_CASE("50 concurrent clients get the bytes that each gets alone") {
  const Served served;
  constexpr std::size_t clients = 50;
  std::vector<std::string> bytes(clients);
  std::vector<std::thread> threads;
  const auto task = [](std::size_t c) { return task_of(std::string(c % 37, static_cast<char>('a' + c % 26)), 30 + static_cast<std::int64_t>(c), c); };
  for (std::size_t c = 0; c < clients; ++c) {
    threads.emplace_back([&, c] {
      Json request = request_of(task(c));
      request["stream"] = c % 2 == 0;
      const httplib::Result result = served.post(request);
      if (!result || result->status != 200) return;
      if (c % 2 == 0) {
        for (const Json& event : events_of(result->body)) bytes[c] += decoded(event["choices"][0]["text_base64"]);
      } else {
        bytes[c] = decoded(Json::parse(result->body)["choices"][0]["text_base64"]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t c = 0; c < clients; ++c) CHECK(bytes[c] == bytes_of(alone(*served.model, task(c)).ids));
}

TEST_CASE("clients that leave or stop reading cost nobody anything") {
  ServeLimits limits;
  limits.rows = 50;
  limits.tokens = 1 << 20;
  limits.receive = 1s;
  const Served served(limits);
  const std::string endless = R"({"prompt": "a", "max_tokens": 1000000, "stream": true})", whole = R"({"prompt": "a", "max_tokens": 1000000})";
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(std::make_unique<RawClient>(served.port));
    clients.back()->send(post_text("/v1/completions", i % 2 == 0 ? endless : whole));
    if (i % 4 == 0) clients.back()->read_until("data: ");
  }
  CHECK(becomes_true([&] { return served.server.counts().rows == 50; }));
  for (int i = 0; i < 50; ++i)
    if (i % 4 != 0) clients[static_cast<std::size_t>(i)]->close();  // every fourth stays and does not read
  CHECK(becomes_true([&] { return served.server.counts().rows <= 13; }));
  const Task task = task_of("meanwhile", 20, 2);
  CHECK(decoded(served.completion(request_of(task))["choices"][0]["text_base64"]) == bytes_of(alone(*served.model, task).ids));
  // Those that do not read are given up once the system takes no more of their answer.
  CHECK(becomes_true([&] { return served.server.counts().rows == 0; }, 120s));
  CHECK(served.server.counts().abandoned == 50);
  CHECK(becomes_true([&] { return served.server.open_completions() == 0; }));
}

TEST_CASE("a client that sends slowly has limited time and delays nobody") {
  ServeLimits limits;
  limits.receive = 1s;
  limits.connections = 8;
  const Served served(limits);
  for (const std::string& text : {post_text("/v1/completions", R"({"prompt": "slow"})"), std::string("GET /health HTTP/1.1\r\n")}) {
    RawClient slow(served.port);
    const Clock::time_point start = Clock::now();
    std::size_t sent = 0;
    while (sent < text.size() && Clock::now() - start < 20s && slow.send(text.substr(sent, 1))) {
      ++sent;
      slow.read_until("\r\n\r\n", 0.1);
      if (slow.closed()) break;
      if (sent % 8 == 0) CHECK(served.completion({{"prompt", "a"}, {"max_tokens", 2}})["choices"].size() == 1);
    }
    CHECK(slow.closed());
    CHECK(sent < text.size());
    CHECK(Clock::now() - start < 10s);
  }
}

TEST_CASE("an idle connection ends, and connections beyond the limit get 503") {
  ServeLimits limits;
  limits.receive = 1s;
  limits.connections = 3;
  const Served served(limits);
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 3; ++i) idle.push_back(std::make_unique<RawClient>(served.port));
  std::this_thread::sleep_for(100ms);
  RawClient more(served.port);
  CHECK(more.read_all(5).starts_with("HTTP/1.1 503"));
  for (auto& client : idle) CHECK(client->read_all(5).empty());
  for (auto& client : idle) CHECK(client->closed());
  CHECK(served.client().Get("/health")->status == 200);
}

TEST_CASE("random bytes and damaged requests") {
  ServeLimits limits;
  limits.receive = 1s;
  const Served served(limits);
  std::mt19937_64 random(3);
  const std::string good = post_text("/v1/completions", R"({"prompt": "a", "max_tokens": 3, "seed": 1})");
  const int rounds = runs_long() ? 5000 : 150;
  for (int i = 0; i < rounds; ++i) {
    std::string bytes = good;
    if (i % 3 == 0) {
      bytes.resize(1 + random() % 3000);
      for (char& c : bytes) c = static_cast<char>(random());
    } else if (i % 3 == 1) {
      for (std::uint64_t n = 1 + random() % 4; n > 0; --n) bytes[random() % bytes.size()] = static_cast<char>(random());
    } else {
      bytes.resize(random() % bytes.size());
    }
    RawClient client(served.port);
    client.send(bytes);
    if (i % 2 == 0) client.read_until("\r\n\r\n", 0.05);
  }
  CHECK(becomes_true([&] { return served.server.open_completions() == 0 && served.server.counts().rows == 0; }));
  CHECK(served.completion({{"prompt", "a"}, {"max_tokens", 3}})["usage"]["completion_tokens"] == 3);
}

TEST_CASE("many requests one after another leave the memory as it was") {
  const Served served;
  const int requests = runs_long() ? 10'000 : 300, warm = requests / 3;
  httplib::Client kept = served.client();
  std::size_t before = 0;
  for (int i = 0; i < requests; ++i) {
    const std::string body = Json{{"prompt", std::string(static_cast<std::size_t>(i % 50), 'a')}, {"max_tokens", 4}, {"stream", i % 2 == 0}}.dump();
    const httplib::Result result = i % 3 == 0 ? served.client().Post("/v1/completions", body, "application/json") : kept.Post("/v1/completions", body, "application/json");
    REQUIRE(result);
    REQUIRE(result->status == 200);
    if (i == warm) before = resident_pages();
  }
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t after = resident_pages(), grown = (after > before ? after - before : 0) * page;
  MESSAGE("grew by ", grown, " bytes");
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory for a while
  CHECK(grown < (std::size_t{4} << 20));
#endif
}

TEST_CASE("a queue that is full answers 429, and time that is over 504") {
  ServeLimits limits;
  limits.rows = 1;
  limits.queue = 1;
  limits.tokens = 1 << 20;
  limits.request = 4s;
  const Served served(limits);
  const std::string body = R"({"prompt": "a", "max_tokens": 1000000})";
  std::vector<std::thread> threads;
  std::vector<int> statuses(2);
  for (std::size_t i = 0; i < 2; ++i)
    threads.emplace_back([&, i] { statuses[i] = served.client().Post("/v1/completions", body, "application/json")->status; });
  CHECK(becomes_true([&] { return served.server.counts().rows == 1 && served.server.counts().waiting == 1; }, 3s));
  const httplib::Result refused = served.post({{"prompt", "b"}});
  CHECK(error_of(refused).first == 429);
  CHECK(refused->get_header_value("Retry-After") == "1");
  for (std::thread& thread : threads) thread.join();
  CHECK(statuses == std::vector<int>{504, 504});
  RawClient stream(served.port);
  stream.send(post_text("/v1/completions", R"({"prompt": "a", "max_tokens": 1000000, "stream": true})"));
  const std::string events = stream.read_until("[DONE]");
  CHECK(events.find("\"type\":\"timeout_error\"") != std::string::npos);
  CHECK(events.find("data: [DONE]") != std::string::npos);
}

TEST_CASE("closing finishes what has begun and refuses the rest") {
  Served served(ServeLimits{.tokens = 1 << 20});
  RawClient stream(served.port);
  stream.send(post_text("/v1/completions", R"({"prompt": "a", "max_tokens": 12000, "stream": true})"));
  CHECK(stream.read_until("data: ").find("200 OK") != std::string::npos);
  served.server.close();
  CHECK(error_of(served.post({{"prompt", "b"}})).first == 503);
  CHECK(served.client().Get("/health")->status == 503);
  CHECK_FALSE(served.server.idle());
  CHECK(stream.read_until("data: [DONE]", 60).find("\"finish_reason\":\"length\"") != std::string::npos);
  CHECK(becomes_true([&] { return served.server.idle(); }));
}

TEST_CASE("the destructor ends streams") {
  auto served = std::make_unique<Served>(ServeLimits{.tokens = 1 << 20});
  RawClient stream(served->port);
  stream.send(post_text("/v1/completions", R"({"prompt": "a", "max_tokens": 1000000, "stream": true})"));
  stream.read_until("data: ");
  const Clock::time_point start = Clock::now();
  served.reset();
  CHECK(Clock::now() - start < 20s);
  stream.read_all(5);
  CHECK(stream.closed());
}

TEST_CASE("HTTP/1.0, and one port for one server") {
  const Served served;
  RawClient old(served.port);
  const std::string body = R"({"prompt": "a", "max_tokens": 3, "stream": true, "seed": 1})";
  old.send(concat_text("POST /v1/completions HTTP/1.0\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  const std::string answer = old.read_all();
  CHECK(old.closed());
  CHECK(answer.find("Transfer-Encoding") == std::string::npos);
  CHECK(answer.ends_with("data: [DONE]\n\n"));
  HttpServer second(*served.model, {});
  CHECK_THROWS_AS(second.start("127.0.0.1", served.port), Error);
}

}  // namespace mblm::testing
