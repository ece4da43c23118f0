// mblm compress and decompress: lossless compression with a model.
#include <optional>

#include "mblm/compress.h"
#include "program/interrupt.h"
#include "program/program.h"
#include "program/stream_progress.h"

namespace mblm {
namespace {

// Runs the work, which calls its argument from time to time. The signals of an InterruptScope end it there, so that nothing unfinished remains.
template <class Work>
int run_stream(const char* verb, const std::string& file, const Work& work) {
  const InterruptScope interrupt;
  std::optional<StreamProgress> progress;
  const auto on_progress = [&](std::int64_t done, std::optional<std::int64_t> total) {
    if (!progress) progress.emplace(concat_text(verb, ' ', file), total);
    progress->show(done);
  };
  try {
    const CompressionResult result = work(on_progress);
    if (progress) {
      const double bits = 8 * static_cast<double>(result.file_bytes) / static_cast<double>(result.content_bytes);
      progress->finish(concat_text(file, ": ", result.content_bytes, " bytes of content, ", result.file_bytes, " compressed, ", bits, " bits per byte"));
    }
    return 0;
  } catch (const Interrupted& interrupted) {
    return exit_status(interrupted);
  }
}

}  // namespace

int run(const CompressCommand& command) {
  check_input(command.file);
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  CompressOptions options;
  options.streams = command.streams;
  return run_stream("compress", command.file, [&](const OnProgress& on_progress) { return compress_file(*model, command.file, command.output, options, on_progress); });
}

int run(const DecompressCommand& command) {
  check_input(command.file);
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  return run_stream("decompress", command.file, [&](const OnProgress& on_progress) { return decompress_file(*model, command.file, command.output, on_progress); });
}

}  // namespace mblm
