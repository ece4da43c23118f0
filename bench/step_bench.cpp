// Times one optimizer step (forward, loss, backward, clip, Adam), or one forward, of a model on random bytes. Prints one JSON
// line, which bench/compare.py reads to compare with the Python package.
//   build/bench/step_bench MODEL.yaml [--what train|forward] [--precision float32|bfloat16] [--batch 4] [--length BYTES]
//     [--device cpu|cuda|cuda:N] [--graphs] [--repeats 7] [--threads N] [--profile]
// --graphs replays steps as graphs of the device, as training does.
// --profile adds the time and the bytes of the tensors per kernel slot in one more step, where the device finishes each kernel before the
// next one starts.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/slot_times.h"
#include "engine/autograd.h"
#include "engine/device_name.h"
#include "engine/parallel.h"
#include "engine/pool.h"
#include "mblm/model.h"
#include "train/step_runner.h"

namespace {

using namespace mblm;

struct Options {
  std::string model, what = "train", precision = "float32", device = "cpu";
  std::int64_t batch = 4, length = 0;  // length 0: the model's context
  int repeats = 7, warmup = 2, threads = 0;
  bool graphs = false, profile = false;
};

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Times a model's step");
  app.add_option("model", o.model)->required();
  app.add_option("--what", o.what)->check(CLI::IsMember({"train", "forward"}));
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--batch", o.batch);
  app.add_option("--length", o.length);
  app.add_option("--device", o.device);
  app.add_flag("--graphs", o.graphs);
  app.add_flag("--profile", o.profile)->excludes("--graphs");  // a graph is one launch
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
    const Device device = open_device(o.device);
    model.allocate(device, precision_named(o.precision, device));
    model.initialize(0);
    const std::int64_t length = o.length > 0 ? o.length : model.config().context();
    const Tensor ids = random_ids(o.batch, length);
    StepRunner runner(model, 1, {.gradient = {.clip = 1.0}}, o.graphs);
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
    const PoolStatistics memory = current_pool(device)->statistics();
    nlohmann::json result{{"peer", "mblm"},
                          {"what", o.what},
                          {"model", o.model},
                          {"mode", o.precision},
                          {"device", o.device},
                          {"graphs", o.graphs},
                          {"batch", o.batch},
                          {"length", length},
                          {"parameters", model.parameters().count()},
                          {"ms", ms},
                          {"median_ms", median},
                          {"bytes_per_second", static_cast<double>(o.batch * length) / median * 1e3},
                          {"peak_mib", static_cast<double>(usage.ru_maxrss) / 1024},                        // of the process
                          {"peak_tensor_mib", static_cast<double>(memory.peak_used_bytes) / 1048576},  // in use on the device
                          {"peak_held_mib", static_cast<double>(memory.peak_held_bytes) / 1048576}};
    if (o.profile) {
      bench::SlotTimes times;
      const KernelObserverScope scope(times);
      step();
      result["slots"] = times.json();
    }
    std::cout << result << '\n';
  } catch (const Error& error) {
    std::cerr << "step_bench: " << error.what() << '\n';
    return 1;
  }
}
