// Lossless compression: a range coder with the model's probabilities (spec: "Generation", "Compressed files").
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "mblm/model.h"

namespace mblm {

struct CompressOptions {
  // Splits the content into this many parts, each from the start token, which decompression processes as one batch: faster, and larger by
  // what the model would have learned from the parts before. With a fixed context, parts are whole windows.
  int streams = 1;
};

// Called from time to time with the bytes of content done so far. It may throw: then nothing is written.
using OnProgress = std::function<void(std::int64_t done, std::optional<std::int64_t> total)>;

struct CompressionResult {
  std::int64_t content_bytes = 0, file_bytes = 0;
};

// Compresses the file `from` (`-`: standard input) to `to`, which is written completely or not at all. Memory does not grow with the
// file, except as Scorer's. Content beyond a fixed context is coded in windows, as by predict_stream. Only the same model, build of this
// library, instruction set, precision and kind of device can decompress the result. Throws FileError (also for a byte that is not an id of
// the model), and ValueError for a masked language model, for streams outside [1, 256], and for several streams of a pipe.
CompressionResult compress_file(const Model& model, const std::string& from, const std::filesystem::path& to, const CompressOptions& options = {},
                                const OnProgress& on_progress = {});

// The reverse; `from` is a regular file. Throws FileError, and writes nothing, for a file that compress_file did not write, that was cut or
// changed, or that needs another model, build, instruction set, precision or device.
CompressionResult decompress_file(const Model& model, const std::string& from, const std::filesystem::path& to, const OnProgress& on_progress = {});

}  // namespace mblm
