// The scheduler: bytes that do not depend on other clients, fairness, limits, and clients that leave.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "engine/elementwise.h"
#include "serve/scheduler.h"
#include "tests/serve_model.h"

namespace mblm::testing {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto patience = 60s;  // for what does happen

Clock::time_point later() { return Clock::now() + patience; }

// All that a choice received.
struct Received {
  std::vector<std::int64_t> ids, prompt;
  std::vector<double> log_probabilities, prompt_log_probabilities;
  std::int64_t generated = 0;
  std::optional<Finish> finish;
  std::string error;
};

void collect(std::vector<Received>& all, const std::vector<Progress>& news) {
  for (const Progress& progress : news) {
    if (progress.choice >= all.size()) all.resize(progress.choice + 1);
    Received& one = all[progress.choice];
    CHECK_FALSE(one.finish);  // nothing follows the end
    for (const ScoredId& id : progress.ids) one.ids.push_back(id.id), one.log_probabilities.push_back(id.log_probability);
    for (const ScoredId& id : progress.prompt) one.prompt.push_back(id.id), one.prompt_log_probabilities.push_back(id.log_probability);
    one.generated += progress.generated;
    one.finish = progress.finish;
    one.error = progress.error;
  }
}

std::vector<Received> receive_all(Submission& submission, bool whole = false) {
  std::vector<Received> all;
  const Clock::time_point end = later();
  while (!submission.finished() && Clock::now() < end) collect(all, submission.wait(100ms, whole));
  REQUIRE(submission.finished());
  return all;
}

template <class Condition>
bool becomes_true(Condition condition) {
  const Clock::time_point end = later();
  while (!condition() && Clock::now() < end) std::this_thread::sleep_for(1ms);
  return condition();
}

std::vector<Task> one_task(const std::string& prompt, std::int64_t count) {
  std::vector<Task> tasks(1);
  tasks[0].prompt = ids_of(prompt);
  tasks[0].count = count;
  return tasks;
}

Task random_task(std::mt19937_64& random) {
  const auto below = [&](std::uint64_t n) { return random() % n; };
  Task task;
  for (std::uint64_t n = below(4) == 0 ? below(300) : below(40); n > 0; --n) task.prompt.push_back(static_cast<std::int64_t>(below(256)));
  task.count = static_cast<std::int64_t>(below(60));
  task.continuations = 1 + below(3);
  task.sampling.temperature = below(3) == 0 ? 0.0 : 1.0;
  task.sampling.top_k = below(2) == 0 ? 0 : 20;
  task.sampling.repetition_penalty = below(3) == 0 ? 1.3 : 1.0;
  task.sampling.seed = random();
  for (std::uint64_t n = below(4); n > 0; --n) task.stop.emplace_back(1 + below(2), static_cast<char>(below(256)));
  if (below(4) == 0)
    for (std::int64_t id = 0; id < 12; ++id) task.sampling.stop.push_back(id);
  if (below(3) == 0) task.likeliest = below(4);
  if (task.likeliest && below(2) == 0) task.score_prompt = true;
  return task;
}

}  // namespace

TEST_CASE("a continuation has the same bytes as alone, whoever comes and goes meanwhile") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 7;
  Scheduler scheduler(*model, limits);
  constexpr int clients = 6, tasks_of_each = 8;
  std::vector<std::vector<Task>> tasks(clients);
  std::vector<std::vector<std::vector<Received>>> received(clients);
  std::vector<std::thread> threads;
  std::mt19937_64 random(5);
  for (auto& of_client : tasks)
    for (int i = 0; i < tasks_of_each; ++i) of_client.push_back(random_task(random));
  for (std::size_t c = 0; c < clients; ++c) {
    threads.emplace_back([&, c] {
      for (std::size_t i = 0; i < tasks_of_each; i += 2) {
        const auto submission = scheduler.submit({tasks[c][i], tasks[c][i + 1]}, later());
        if (i % 4 == 0) scheduler.submit(one_task("leaves", 1000), later());  // and leaves at once
        received[c].push_back(receive_all(*submission, c % 2 == 0));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::size_t stopped = 0, checked = 0;
  for (std::size_t c = 0; c < clients; ++c) {
    for (std::size_t i = 0; i < tasks_of_each; ++i) {
      const Task& task = tasks[c][i];
      const std::vector<Received>& both = received[c][i / 2];
      const std::size_t first = i % 2 == 0 ? 0 : tasks[c][i - 1].continuations;
      for (std::size_t number = 0; number < task.continuations; ++number) {
        const Alone expected = alone(*model, task, number);
        const Received& got = both.at(first + number);
        CHECK(got.ids == expected.ids);
        CHECK(got.finish == expected.finish);
        CHECK(got.generated == expected.generated);
        if (task.likeliest) CHECK(got.log_probabilities == expected.log_probabilities);
        if (task.score_prompt) CHECK(got.prompt == task.prompt);
        stopped += expected.finish == Finish::Stop;
        ++checked;
      }
    }
  }
  CHECK(stopped > checked / 10);
  CHECK(stopped < checked);
  CHECK(becomes_true([&] { return scheduler.idle() && scheduler.counts().rows == 0; }));
  CHECK(scheduler.counts().step_rows > 2 * scheduler.counts().steps);  // batches
}

TEST_CASE("log-probabilities of a prompt are those of the model, and the continuation does not change") {
  const auto model = served_model();
  Scheduler scheduler(*model, {});
  std::vector<Task> tasks = one_task("the ships went out", 9);
  tasks[0].likeliest = 2;
  tasks[0].score_prompt = true;
  tasks[0].continuations = 2;
  const auto submission = scheduler.submit(tasks, later());
  std::vector<Received> all(2);
  std::vector<std::pair<std::int64_t, double>> likeliest;
  while (!submission->finished()) {
    const std::vector<Progress> news = submission->wait(100ms);
    if (likeliest.empty() && !news.empty() && !news[0].prompt.empty()) likeliest = news[0].prompt[0].likeliest;
    collect(all, news);
  }
  Generator generator(*model);
  Generator::Row row = generator.join();
  REQUIRE(likeliest.size() == 2);
  CHECK(likeliest[0].second >= likeliest[1].second);
  for (const auto& [id, value] : likeliest) CHECK(value == log_probability(generator.logits(row), id));
  for (std::size_t i = 0; i < tasks[0].prompt.size(); ++i) {
    for (const Received& one : all) CHECK(one.prompt_log_probabilities.at(i) == log_probability(generator.logits(row), tasks[0].prompt[i]));
    generator.feed(row, std::span(tasks[0].prompt).subspan(i, 1));
  }
  for (std::size_t number = 0; number < 2; ++number) CHECK(all[number].ids == alone(*model, tasks[0], number).ids);
  CHECK(becomes_true([&] { return scheduler.idle(); }));
  CHECK(scheduler.counts().prompt_bytes == tasks[0].prompt.size());
}

TEST_CASE("of ids that are equally likely, the lowest are listed") {
  const auto model = served_model();
  Tensor values = model->parameters().values();
  fill(values, 0);
  Scheduler scheduler(*model, {});
  std::vector<Task> tasks = one_task("a", 1);
  tasks[0].likeliest = 3;
  const auto submission = scheduler.submit(tasks, later());
  std::vector<ScoredId> ids;
  while (!submission->finished())
    for (const Progress& news : submission->wait(100ms)) ids.insert(ids.end(), news.ids.begin(), news.ids.end());
  REQUIRE(ids.size() == 1);
  REQUIRE(ids[0].likeliest.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(ids[0].likeliest[i].first == static_cast<std::int64_t>(i));
}

TEST_CASE("rows and places of clients that leave are used by others") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 2;
  Scheduler scheduler(*model, limits);
  auto first = scheduler.submit(one_task("a", 1 << 20), later()), second = scheduler.submit(one_task(std::string(1 << 18, 'b'), 1 << 20), later());
  auto waiting = scheduler.submit(one_task("c", 1 << 20), later());
  CHECK(becomes_true([&] { return scheduler.counts().rows == 2; }));
  const auto last = scheduler.submit(one_task("d", 5), later());
  CHECK(last->wait(50ms).empty());
  first.reset();
  second.reset();
  waiting.reset();
  CHECK(receive_all(*last).at(0).ids.size() == 5);
  CHECK(becomes_true([&] { return scheduler.counts().abandoned == 3 && scheduler.counts().rows == 0; }));
}

TEST_CASE("what a client has received has been counted") {
  const auto model = served_model();
  Scheduler scheduler(*model, {});
  for (std::uint64_t request = 1; request <= 200; ++request) {
    receive_all(*scheduler.submit(one_task("abc", 2), later()));
    const SchedulerCounts counts = scheduler.counts();
    REQUIRE(counts.finished == request);
    REQUIRE(counts.generated_bytes == 2 * request);
    REQUIRE(counts.prompt_bytes == 3 * request);
  }
}

TEST_CASE("a client that collects nothing delays nobody and loses nothing") {
  const auto model = served_model();
  Scheduler scheduler(*model, {});
  const std::vector<Task> task = one_task("slow", 400);
  const auto slow = scheduler.submit(task, later());
  CHECK(receive_all(*scheduler.submit(one_task("quick", 100), later())).at(0).ids.size() == 100);
  CHECK(becomes_true([&] { return scheduler.idle(); }));
  const std::vector<Received> all = receive_all(*slow);
  CHECK(all.at(0).ids == alone(*model, task[0]).ids);
}

TEST_CASE("a long prompt does not stall other clients") {
  const auto model = served_model();
  Scheduler scheduler(*model, {});
  const auto writing = scheduler.submit(one_task("a", 200), later());
  CHECK(becomes_true([&] { return scheduler.counts().generated_bytes > 0; }));
  const auto reading = scheduler.submit(one_task(std::string(300'000, 'b'), 1), later());
  receive_all(*writing);
  CHECK_FALSE(reading->finished());
  CHECK(reading->wait(0ms).empty());
  const auto new_client = scheduler.submit(one_task("a short prompt", 20), later());  // begins meanwhile
  receive_all(*new_client);
  CHECK(reading->wait(0ms).empty());
  CHECK(receive_all(*reading).at(0).ids.size() == 1);
}

TEST_CASE("work beyond the limits is refused, all or none of a submission") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 2;
  limits.queue = 2;
  Scheduler scheduler(*model, limits);
  const auto running = scheduler.submit({one_task("a", 1 << 20)[0], one_task("b", 1 << 20)[0]}, later());
  CHECK(becomes_true([&] { return scheduler.counts().rows == 2; }));
  const auto waiting = scheduler.submit(one_task("c", 1), later());
  CHECK_THROWS_AS(scheduler.submit({one_task("d", 1)[0], one_task("e", 1)[0]}, later()), BusyError);
  CHECK(scheduler.counts().waiting == 1);
  auto also_waiting = scheduler.submit(one_task("f", 1), later());
  CHECK_THROWS_AS(scheduler.submit(one_task("g", 1), later()), BusyError);
  also_waiting.reset();
  CHECK(becomes_true([&] { return scheduler.counts().waiting == 1; }));

  std::vector<Task> wrong = one_task("h", 1);
  wrong[0].continuations = 3;
  CHECK_THROWS_AS(scheduler.submit(wrong, later()), ValueError);
  wrong = one_task("h", 1);
  wrong[0].prompt[0] = 256;
  CHECK_THROWS_AS(scheduler.submit(wrong, later()), ValueError);
  wrong = one_task("h", 1);
  wrong[0].sampling.top_p = 0;
  CHECK_THROWS_AS(scheduler.submit(wrong, later()), ValueError);
  scheduler.close();
  CHECK_THROWS_AS(scheduler.submit(one_task("i", 1), later()), ClosingError);
  CHECK_FALSE(scheduler.idle());
}

TEST_CASE("waiting prompts have a limit of bytes") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 1;
  limits.body = 100;
  Scheduler scheduler(*model, limits);
  const auto running = scheduler.submit(one_task("a", 1 << 20), later());
  CHECK(becomes_true([&] { return scheduler.counts().rows == 1; }));
  const auto waiting = scheduler.submit(one_task(std::string(3100, 'a'), 1), later());
  CHECK_THROWS_AS(scheduler.submit(one_task(std::string(101, 'a'), 1), later()), BusyError);
  const auto fits = scheduler.submit(one_task(std::string(100, 'a'), 1), later());
}

TEST_CASE("work ends at its deadline, also while it waits") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 1;
  Scheduler scheduler(*model, limits);
  const auto running = scheduler.submit(one_task("a", 1 << 20), Clock::now() + 300ms), waiting = scheduler.submit(one_task("b", 1), Clock::now() + 100ms);
  CHECK(receive_all(*waiting).at(0).finish == Finish::TimedOut);
  const std::vector<Received> all = receive_all(*running);
  CHECK(all.at(0).finish == Finish::TimedOut);
  CHECK(all.at(0).ids.size() > 0);
  CHECK(becomes_true([&] { return scheduler.counts().timed_out == 2 && scheduler.idle(); }));
  CHECK(receive_all(*scheduler.submit(one_task("c", 3), later())).at(0).ids.size() == 3);
}

TEST_CASE("a failure ends the work that it hits, and the next work is computed") {
  const auto model = served_model();
  Tensor values = model->parameters().values();
  fill(values, std::numeric_limits<double>::quiet_NaN());
  Scheduler scheduler(*model, {});
  for (int i = 0; i < 3; ++i) {
    const std::vector<Received> all = receive_all(*scheduler.submit({one_task("a", 5)[0], one_task("b", 5)[0]}, later()));
    for (const Received& one : all) {
      CHECK(one.finish == Finish::Failed);
      CHECK(one.error.find("NaN") != std::string::npos);
    }
  }
  CHECK(becomes_true([&] { return scheduler.counts().failed == 6 && scheduler.counts().rows == 0; }));
}

TEST_CASE("the destructor ends what is being computed and what waits") {
  const auto model = served_model();
  ServeLimits limits;
  limits.rows = 1;
  std::unique_ptr<Submission> running, waiting;
  {
    Scheduler scheduler(*model, limits);
    running = scheduler.submit(one_task("a", 1 << 20), later());
    waiting = scheduler.submit(one_task("b", 1), later());
    CHECK(becomes_true([&] { return scheduler.counts().generated_bytes > 0; }));
  }
  CHECK(receive_all(*running).at(0).finish == Finish::Failed);
  CHECK(receive_all(*waiting).at(0).finish == Finish::Failed);
}

TEST_CASE("a model without continuations is refused") {
  const std::string masked =
      "mask_token_id: 255\nmblm_config:\n  num_tokens: 256\n  pad_token_id: 0\n  hidden_dims: [16]\n  seq_lens: [32]\n  num_layers: [1]\n"
      "  train_checkpoint_chunks: null\n  block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n";
  Model model(parse_model_config(masked, "serve", BlockRegistry()));
  model.allocate();
  model.initialize(1);
  CHECK_THROWS_AS(Scheduler(model, {}), ValueError);
}

}  // namespace mblm::testing
