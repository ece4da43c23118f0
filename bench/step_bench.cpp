// Times one optimizer step (forward, loss, backward, clip, Adam), or one forward, of a model on random bytes. Prints one JSON
// line, which bench/compare.py reads to compare with the Python package.
//   build/bench/step_bench MODEL.yaml [--what train|forward] [--precision float32|bfloat16] [--batch 4] [--repeats 7] [--threads N]
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/autograd.h"
#include "engine/parallel.h"
#include "engine/pool.h"
#include "mblm/model.h"
#include "train/step_runner.h"

namespace {

using namespace mblm;

struct Options {
  std::string model, what = "train", precision = "float32";
  std::int64_t batch = 4;
  int repeats = 7, warmup = 2, threads = 0;
};

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Times a model's step");
  app.add_option("model", o.model)->required();
  app.add_option("--what", o.what)->check(CLI::IsMember({"train", "forward"}));
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--batch", o.batch);
  app.add_option("--repeats", o.repeats);
  app.add_option("--warmup", o.warmup);
  app.add_option("--threads", o.threads);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return o;
}

Tensor random_ids(std::int64_t batch, std::int64_t length) {
  std::mt19937_64 random(0);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::int64_t& id : ids) id = 1 + static_cast<std::int64_t>(random() % 254);
  return from_values<std::int64_t>(Shape{batch, length}, ids);
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  if (o.threads > 0) set_thread_count(o.threads);
  try {
    Model model(read_model_config(o.model, BlockRegistry()));
    model.allocate({}, precision_named(o.precision, {}));
    model.initialize(0);
    const std::int64_t length = model.config().context();
    const Tensor ids = random_ids(o.batch, length);
    StepRunner runner(model, 1, {.gradient = {.clip = 1.0}});
    const auto step = [&] {
      if (o.what == "forward") {
        const NoGradScope no_grad;
        return model.loss(ids).loss.item();
      }
      ForwardContext context;
      context.training = true;
      const Tensor loss = runner.micro_step(prepare_input(model.config(), ids), context);
      runner.optimizer_step(1e-4);
      return loss.item();
    };
    std::vector<double> ms;
    for (int i = 0; i < o.warmup + o.repeats; ++i) {
      const auto start = std::chrono::steady_clock::now();
      step();
      if (i >= o.warmup) ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::vector<double> sorted = ms;
    std::sort(sorted.begin(), sorted.end());
    const double median = sorted[sorted.size() / 2];
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::cout << nlohmann::json{{"peer", "mblm"}, {"what", o.what}, {"model", o.model}, {"mode", o.precision}, {"device", "cpu"}, {"batch", o.batch},
                                {"length", length}, {"parameters", model.parameters().count()}, {"ms", ms}, {"median_ms", median},
                                {"bytes_per_second", static_cast<double>(o.batch * length) / median * 1e3},
                                {"peak_mib", static_cast<double>(usage.ru_maxrss) / 1024}}
              << '\n';
  } catch (const Error& error) {
    std::cerr << "step_bench: " << error.what() << '\n';
    return 1;
  }
}
