// Completion requests and answers, without connections.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "serve/base64.h"
#include "serve/completion_request.h"
#include "serve/completion_response.h"
#include "tests/serve_model.h"

namespace mblm::testing {
namespace {

using Json = nlohmann::json;

ModelConfig config_of(const char* model) { return parse_model_config(concat_text("params:\n", model), "serve", BlockRegistry()); }

const ServeLimits limits{.body = 4096, .tokens = 100, .rows = 4, .queue = 8};

CompletionRequest parsed(const std::string& body, const char* model = tiny_model) { return parse_completion_request(body, config_of(model), "tiny", limits); }

// The field that the error names, and its message.
std::pair<std::string, std::string> refused(const std::string& body, const char* model = tiny_model) {
  try {
    parsed(body, model);
  } catch (const RequestError& error) {
    return {error.field(), error.what()};
  }
  return {"accepted", ""};
}

std::vector<ScoredId> scored(const std::string& bytes) {
  std::vector<ScoredId> all;
  for (const std::int64_t id : ids_of(bytes)) all.push_back({id, -0.5, {{65, -0.25}}});
  return all;
}

}  // namespace

TEST_CASE("base64 of bytes and back") {
  for (const auto& [bytes, text] : {std::pair<std::string, std::string>{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xfb\xff", "+/8="}}) {
    CHECK(to_base64(bytes) == text);
    CHECK(from_base64(text) == bytes);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  CHECK(from_base64(to_base64(all)) == all);
  for (const char* wrong : {"Zg=", "Zg", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9v", "Zm9v\n", "Zm-_"}) {
    CAPTURE(wrong);
    CHECK_FALSE(from_base64(wrong));
  }
}

TEST_CASE("a request with all fields") {
  const CompletionRequest request = parsed(R"({"model": "tiny", "prompt": ["ab", "c"], "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
    "repetition_penalty": 1.2, "seed": 18446744073709551615, "stop": ["x", "yz"], "stop_token_ids": [3, 4], "logit_bias": {"65": -100}, "n": 2, "logprobs": 3, "echo": true,
    "stream": true, "stream_options": {"include_usage": true}, "user": "me", "best_of": 2, "presence_penalty": 0, "frequency_penalty": 0.0, "suffix": null})");
  REQUIRE(request.tasks.size() == 2);
  CHECK(request.stream);
  CHECK(request.stream_usage);
  CHECK(request.echo);
  CHECK(request.log_probabilities);
  const Task& task = request.tasks[0];
  CHECK(task.prompt == ids_of("ab"));
  CHECK(request.tasks[1].prompt == ids_of("c"));
  CHECK(task.count == 7);
  CHECK(task.continuations == 2);
  CHECK(task.sampling.temperature == 0.5);
  CHECK(task.sampling.top_p == 0.9);
  CHECK(task.sampling.top_k == 5);
  CHECK(task.sampling.min_p == 0.1);
  CHECK(task.sampling.repetition_penalty == 1.2);
  CHECK(task.sampling.seed == 18446744073709551615ULL);
  CHECK(task.sampling.stop == std::vector<std::int64_t>{3, 4});
  CHECK(task.sampling.banned == std::vector<std::int64_t>{65});
  CHECK(task.stop == std::vector<std::string>{"x", "yz"});
  CHECK(task.likeliest == 3);
  CHECK(task.score_prompt);
}

TEST_CASE("the defaults are those of the API, and seeds differ") {
  const CompletionRequest request = parsed(R"({"prompt": "", "stop": null, "n": null, "stream": null})");
  CHECK(request.tasks.at(0).prompt.empty());
  CHECK(request.tasks[0].count == 16);
  CHECK(request.tasks[0].continuations == 1);
  CHECK(request.tasks[0].sampling.temperature == 1);
  CHECK_FALSE(request.tasks[0].likeliest);
  CHECK_FALSE(request.stream);
  CHECK(parsed(R"({"prompt": ""})").tasks[0].sampling.seed != request.tasks[0].sampling.seed);
}

TEST_CASE("prompts as ids, lists of ids and base64") {
  CHECK(parsed(R"({"prompt": [0, 255, 7]})").tasks.at(0).prompt == std::vector<std::int64_t>{0, 255, 7});
  const CompletionRequest lists = parsed(R"({"prompt": [[1, 2], [], [3]]})");
  REQUIRE(lists.tasks.size() == 3);
  CHECK(lists.tasks[0].prompt == std::vector<std::int64_t>{1, 2});
  CHECK(lists.tasks[1].prompt.empty());
  CHECK(parsed(R"({"prompt_base64": "+/8="})").tasks.at(0).prompt == std::vector<std::int64_t>{251, 255});
  CHECK(parsed(R"({"prompt_base64": ["Zg==", "Zm8="]})").tasks.at(1).prompt == ids_of("fo"));
  CHECK(parsed("{\"prompt\": \"\xc3\xa4\\u0000\"}").tasks.at(0).prompt == std::vector<std::int64_t>{0xc3, 0xa4, 0});
}

TEST_CASE("an error names the field and what was expected") {
  const auto field_of = [](const std::string& rest) { return refused(R"({"prompt": "a", )" + rest + "}").first; };
  for (const auto& [field, values] : std::vector<std::pair<std::string, std::vector<const char*>>>{
           {"max_tokens", {"-1", "101", "1.5", "\"7\"", "true", "[1]", "1e30", "18446744073709551616"}},
           {"temperature", {"-0.1", "\"hot\"", "1e7", "{}"}},
           {"top_p", {"0", "1.1", "\"1\"", "-1"}},
           {"top_k", {"-1", "1.0", "99999999999"}},
           {"min_p", {"-1", "2"}},
           {"repetition_penalty", {"0", "-1"}},
           {"seed", {"-1", "18446744073709551616", "1.5", "\"1\""}},
           {"stop", {"1", "[1]", "\"\"", "[\"a\", \"\"]", "{}", "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]"}},
           {"stop_token_ids", {"1", "[256]", "[-1]", "[\"a\"]"}},
           {"logit_bias", {"[]", "{\"65\": 1}", "{\"256\": -100}", "{\"a\": -100}", "{\"\": -100}", "{\"65\": null}"}},
           {"n", {"0", "5", "-1", "\"1\""}},
           {"logprobs", {"-1", "21", "true"}},
           {"echo", {"1", "\"yes\""}},
           {"stream", {"0", "\"true\""}},
           {"stream_options", {"true", "[]"}},
           {"stream_options.include_usage", {}},
           {"presence_penalty", {"0.5", "3", "\"0\""}},
           {"frequency_penalty", {"-1"}},
           {"best_of", {"2", "0"}},
           {"suffix", {"\"x\"", "1"}},
           {"user", {"1"}},
           {"model", {"\"other\"", "1"}},
           {"prompt_base64", {"\"Zg==\""}},
           {"unknown", {"1", "null"}},
       }) {
    for (const char* value : values) {
      CAPTURE(value);
      CHECK(field_of("\"" + field + "\": " + value) == field);
    }
  }
  CHECK(field_of(R"("stream_options": {"include_usage": 1})") == "stream_options.include_usage");
  CHECK(field_of(R"("stream_options": {"other": 1})") == "stream_options.other");
  CHECK(refused(R"({"prompt": "a", "max_tokens": 1000})").second == "max_tokens: expected an integer in [0, 100], got 1000");
}

TEST_CASE("wrong prompts") {
  for (const char* prompt : {"1", "true", "{}", "[]", "[\"a\", 1]", "[1, \"a\"]", "[[1], \"a\"]", "[256]", "[-1]", "[1.5]", "[[256]]", "[null]", "[[\"a\"]]",
                             "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]"}) {
    CAPTURE(prompt);
    CHECK(refused(concat_text("{\"prompt\": ", prompt, "}")).first == "prompt");
  }
  CHECK(refused("{}").first == "prompt");
  CHECK(refused(R"({"prompt": null})").first == "prompt");
  for (const char* prompt : {"1", "\"Zg=\"", "[]", "[1]", "{}"}) CHECK(refused(concat_text("{\"prompt_base64\": ", prompt, "}")).first == "prompt_base64");
}

TEST_CASE("bodies that are not JSON objects") {
  for (const std::string& body : {std::string(), std::string("x"), std::string("[]"), std::string("1"), std::string("{\"prompt\": \"a\""), std::string("{\"prompt\": \"\xff\"}"),
                                  std::string("{\"prompt\": 1e999}"), std::string(100'000, '['), std::string("\0", 1)}) {
    const auto [field, message] = refused(body);
    CHECK(field.empty());
    CHECK(message.starts_with("the body"));
    CHECK(message.size() < 300);
  }
}

TEST_CASE("a prompt beyond a fixed context, and ids that the model does not have") {
  const auto with = [](std::size_t length, const std::string& rest = {}) { return refused("{\"prompt\": \"" + std::string(length, 'a') + "\"" + rest + "}", fixed_model); };
  CHECK(with(16).first == "accepted");
  CHECK(with(17).first == "prompt");
  CHECK(with(10, ", \"max_tokens\": 6").first == "accepted");
  CHECK(with(10, ", \"max_tokens\": 7").first == "max_tokens");
  CHECK(parsed(R"({"prompt": "aaaaaaaaaa"})", fixed_model).tasks.at(0).count == 6);  // the room that is left
  CHECK(refused("{\"prompt\": \"\xc3\xa4\"}", fixed_model).first == "prompt");       // 128 ids
  CHECK(refused("{\"prompt\": \"" + std::string(200, 'a') + "\"}").first == "accepted");
}

TEST_CASE("echo has limits") {
  CHECK(refused("{\"prompt\": \"" + std::string(1500, 'a') + "\", \"echo\": true, \"n\": 2}").first == "accepted");
  CHECK(refused("{\"prompt\": \"" + std::string(1500, 'a') + "\", \"echo\": true, \"n\": 3}").first == "echo");
  CHECK(refused("{\"prompt\": \"" + std::string(90, 'a') + "\", \"echo\": true, \"logprobs\": 0, \"max_tokens\": 10}").first == "accepted");
  CHECK(refused("{\"prompt\": \"" + std::string(91, 'a') + "\", \"echo\": true, \"logprobs\": 0, \"max_tokens\": 10}").first == "echo");
}

TEST_CASE("parts of a text are well-formed, and together they are the text and the bytes") {
  const std::string bytes = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 \xff\xe2\x82x\xf0\x9f";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    ChoiceText choice(3, false);
    std::string text, raw;
    for (std::size_t at = 0; at < bytes.size() + step; at += step) {
      if (at < bytes.size()) {
        choice.add(scored(bytes.substr(at, step)));
      } else {
        choice.finish("length");
      }
      if (!choice.has_news()) continue;
      const Json part = Json::parse(dump(choice.take()));  // throws for malformed UTF-8
      CHECK(part["index"] == 3);
      CHECK(part["logprobs"].is_null());
      const std::string part_bytes = from_base64(part["text_base64"].get<std::string>()).value();
      Utf8Decoder decoder;
      std::string part_text;
      for (const char c : part_bytes) part_text += decoder.push(static_cast<std::uint8_t>(c));
      CHECK(part["text"] == part_text + decoder.flush());  // both are the same bytes
      text += part["text"].get<std::string>();
      raw += part_bytes;
      CHECK((part["finish_reason"] == "length") == (at >= bytes.size()));
      CHECK_FALSE(choice.has_news());
    }
    CHECK(text == "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 \xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd");
    CHECK(raw == bytes);
  }
}

TEST_CASE("log-probabilities of tokens") {
  ChoiceText choice(0, true);
  std::vector<ScoredId> ids = scored("a\xc3\xa4z");
  ids.push_back({256, -1.0 / 0.0, {}});
  choice.add(ids);
  const Json values = Json::parse(dump(choice.take()))["logprobs"];
  CHECK(values["tokens"] == Json({"a", "bytes:\\xc3", "bytes:\\xa4", "z", "id:256"}));
  CHECK(values["token_logprobs"] == Json({-0.5, -0.5, -0.5, -0.5, -9999.0}));
  CHECK(values["text_offset"] == Json({0, 1, 1, 2, 3}));
  CHECK(values["top_logprobs"][0] == Json({{"A", -0.25}, {"a", -0.5}}));
  CHECK(Json::parse(dump(choice.take()))["logprobs"]["tokens"].empty());
}

}  // namespace mblm::testing
