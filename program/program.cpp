#include "program/program.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include "engine/device_name.h"
#include "engine/error.h"
#include "engine/io/byte_reader.h"
#include "engine/io/file.h"
#include "engine/io/folder.h"
#include "engine/parallel.h"

namespace mblm {
namespace {

std::string read_all(std::istream& in, const std::string& name) {
  std::ostringstream bytes;
  if (in.peek() != std::istream::traits_type::eof()) bytes << in.rdbuf();
  require<FileError>(!in.bad() && !bytes.fail(), name, ": cannot be read");
  return std::move(bytes).str();
}

}  // namespace

void write_output(std::string_view text) {
  if (write_all(STDOUT_FILENO, text.data(), text.size()) == text.size()) return;
  if (errno == EPIPE) throw BrokenPipe{};
  throw_file_error("standard output", "cannot write");
}

void write_note(std::string_view text) {
  std::string line = concat_text("mblm: ", text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());  // one write per line; a failure cannot be reported
}

void write_error(std::string_view text) {
  while (true) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    write_note(text.substr(0, end));
    if (end == text.size()) return;
    text.remove_prefix(end + 1);
  }
}

void write_message(std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());  // a failure cannot be reported
}

void check_input(const std::string& file) {
  std::error_code error;
  if (file == "-" || !std::filesystem::is_fifo(file, error)) ByteReader{file};
}

std::string read_input(const std::optional<std::string>& file) {
  if (!file) return read_all(std::cin, "standard input");
  require<FileError>(!is_folder(*file), *file, ": expected a file, found a folder");
  std::ifstream in(*file, std::ios::binary);
  require<FileError>(in.is_open(), *file, ": cannot be read: ", std::strerror(errno));
  return read_all(in, *file);
}

ModelFile open_model(const ModelArgument& argument) { return open_model(argument.model, BlockRegistry(), argument.config); }

void start_computing(std::optional<int> threads) {
  if (threads) set_thread_count(*threads);
  const int started = start_threads();
  if (started < thread_count())
    write_note(concat_text("warning: the system refused some of ", thread_count(), " threads; computes with ", started,
                           ". Use fewer (--threads, OMP_NUM_THREADS), or raise the limit on processes or memory"));
}

void note_precision(DType precision, Device device) {
  if (precision != DType::BFloat16 || runtime_of(device.kind).multiplies_bfloat16(device.index)) return;
  write_note("bfloat16 is not faster than float32 on this processor: it has no AVX-512 BF16 or AMX instructions");
}

std::unique_ptr<Model> load_model(const ModelArgument& argument, const ComputeOptions& options) {
  const ModelFile opened = open_model(argument);
  start_computing(options.threads);
  // Without --device, "no GPU" is told to people only: a program may read standard output and standard error as one.
  const bool reports = options.device.has_value() || isatty(STDERR_FILENO) != 0;
  const Device device = open_device(options.device.value_or("auto"), reports ? write_note : std::function<void(const std::string&)>());
  const DType precision = precision_named(options.precision, device);
  note_precision(precision, device);
  return load_model(opened, device, precision, Gradients::No);
}

}  // namespace mblm
