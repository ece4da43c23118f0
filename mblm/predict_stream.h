// The model's predictions for a stream of bytes of any length, in constant memory where the model allows it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>

#include "engine/io/byte_reader.h"
#include "mblm/scorer.h"

namespace mblm {

struct PredictedChunk {
  std::int64_t offset = 0;              // of its first byte in the stream
  std::span<const std::uint8_t> bytes;  // n of them
  std::span<const float> logits;        // (n, V): row i predicts byte i
};

// Reads at most `most` bytes of the stream and calls `on_chunk` for each chunk in order. A stream that exceeds a fixed context is predicted
// in windows that do not overlap, each from the start token. Returns the number of bytes. Throws FileError, naming the stream and the
// offset, for a byte that is not an id of the model.
std::int64_t predict_stream(Scorer& scorer, ByteReader& stream, const std::function<void(const PredictedChunk&)>& on_chunk,
                            std::int64_t most = std::numeric_limits<std::int64_t>::max());

// The number of windows for a stream of this many bytes.
std::int64_t window_count(const ModelConfig& config, std::int64_t bytes);

}  // namespace mblm
