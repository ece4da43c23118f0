// A model to serve, and what it generates alone.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/error.h"
#include "mblm/generate.h"
#include "mblm/stop_text.h"
#include "serve/submission.h"
#include "tests/tiny_run.h"

namespace mblm::testing {

inline std::unique_ptr<Model> served_model(const char* config = tiny_model) {
  auto model = std::make_unique<Model>(parse_model_config(concat_text("params:\n", config), "serve", BlockRegistry()));
  model->allocate();
  model->initialize(1);
  return model;
}

inline std::vector<std::int64_t> ids_of(const std::string& bytes) {
  std::vector<std::int64_t> ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

inline std::string bytes_of(const std::vector<std::int64_t>& ids) {
  std::string bytes;
  for (const std::int64_t id : ids)
    if (id < 256) bytes += static_cast<char>(id);
  return bytes;
}

// A continuation of a task, computed without a scheduler.
struct Alone {
  std::vector<std::int64_t> ids;  // without the stop text
  std::vector<double> log_probabilities;
  std::int64_t generated = 0;
  Finish finish = Finish::Length;
};

inline Alone alone(const Model& model, const Task& task, std::size_t number = 0) {
  Generator generator(model);
  const Generator::Row row = generator.join();
  generator.feed(row, task.prompt);
  Sampler sampler(task.sampling, model.config().num_tokens, static_cast<std::int64_t>(number));
  sampler.see(task.prompt);
  StopText stop(task.stop);
  Alone result;
  const auto add = [&](const std::vector<std::int64_t>& ids) { result.ids.insert(result.ids.end(), ids.begin(), ids.end()); };
  generate(generator, row, task.count, sampler, [&](std::int64_t id, std::span<const float> logits) {
    ++result.generated;
    result.log_probabilities.push_back(log_probability(logits, id));
    add(stop.push(id));
    if (stop.stopped() || sampler.stops_at(id)) result.finish = Finish::Stop;
    return !stop.stopped();
  });
  add(stop.flush());
  result.log_probabilities.resize(result.ids.size());
  return result;
}

}  // namespace mblm::testing
