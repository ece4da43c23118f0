// Reads CLEVR as a run does. Measures samples per second for a number of reading threads, and how long steps of a given time wait
// for their batches. Writes questions and RGBA images of 480 x 320 to a temporary folder. Prints one JSON line.
//   build/bench/data_bench configs/clevr_1d_s_ft.yaml [--threads 1] [--batches 50] [--step-ms 300]
// A step sleeps, as the host does while a GPU computes. --step-ms 0 takes batches as fast as they are read.
#include <png.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/temporary_folder.h"
#include "train/data/prefetch.h"

namespace {

using namespace mblm;
using mblm::testing::TemporaryFolder;

constexpr int images = 64, width = 480, height = 320;

struct Options {
  std::string config;
  int threads = 1;
  std::int64_t batches = 50, step_ms = 0;
};

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Measures the speed of reading CLEVR");
  app.add_option("config", o.config)->required();
  app.add_option("--threads", o.threads);
  app.add_option("--batches", o.batches);
  app.add_option("--step-ms", o.step_ms);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return o;
}

// Draws shaded balls on a shaded floor with noise, about as expensive to decode as a CLEVR image.
void draw(const std::string& path, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> pixels;
  const int x0 = static_cast<int>(random() % width), y0 = static_cast<int>(random() % height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double away = std::hypot(x % 160 - 80 + x0 % 20, y % 160 - 80 + y0 % 20);
      const int shade = away < 50 ? 200 - static_cast<int>(2 * away) : 90 + y / 8;
      for (const int tint : {0, 20 * (x / 160), 15 * (y / 160)}) pixels.push_back(static_cast<std::uint8_t>(shade - tint + static_cast<int>(random() % 4)));
      pixels.push_back(255);
    }
  }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = PNG_FORMAT_RGBA;
  require<FileError>(png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, nullptr) != 0, path, ": cannot be written");
}

void draw_clevr(const TemporaryFolder& folder) {
  std::filesystem::create_directories(folder / "images/train");
  nlohmann::json questions;
  for (int i = 0; i < images; ++i) {
    const std::string name = concat_text(i, ".png");
    draw(folder / ("images/train/" + name), static_cast<unsigned>(i));
    questions.push_back({{"question", std::string(100, 'q')}, {"answer", "yes"}, {"image_filename", name}, {"program", {{{"function", "exist"}}}}});
  }
  folder.write("questions/CLEVR_train_questions.json", nlohmann::json{{"questions", questions}}.dump());
}

nlohmann::json measured(const Options& o) {
  const RunConfig config = read_run_config(o.config, BlockRegistry());
  const TemporaryFolder folder;
  draw_clevr(folder);
  const auto dataset = DatasetRegistry().make(config.io.dataset_id, {.path = folder.path(),
                                                                     .arguments = config.io.dataset_args,
                                                                     .length = config.input_seq_len,
                                                                     .num_tokens = config.model.num_tokens,
                                                                     .pad_token_id = config.model.pad_token_id});
  const std::int64_t size = config.train.batch_size;
  Prefetcher batches(*dataset, config.model, [=, i = std::int64_t{0}]() mutable -> std::optional<BatchPlace> {
    return BatchPlace{.first = i++ * size % (images - size), .count = size};
  }, o.threads);
  batches.next();  // every run waits for its first batch
  const double before = batches.waited_seconds();
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < o.batches; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(o.step_ms));
    batches.next();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), waited = batches.waited_seconds() - before;
  return {{"threads", o.threads}, {"batches", o.batches}, {"batch_size", size}, {"step_ms", o.step_ms},
          {"samples_per_second", static_cast<double>(o.batches * size) / seconds}, {"waited_seconds", waited}, {"waited_share", waited / seconds}};
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  try {
    std::cout << measured(o) << '\n';
  } catch (const Error& error) {
    std::cerr << "data_bench: " << error.what() << '\n';
    return 1;
  }
}
