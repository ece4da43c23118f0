#include "mblm/predict_stream.h"

#include <algorithm>
#include <vector>

namespace mblm {

std::int64_t predict_stream(Scorer& scorer, ByteReader& stream, const std::function<void(const PredictedChunk&)>& on_chunk, std::int64_t most) {
  scorer.restart();
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> ids;
  std::int64_t done = 0;
  while (done < most) {
    if (scorer.length() == scorer.most_bytes()) scorer.restart();
    const std::int64_t wanted = std::min({scorer.chunk_bytes(), scorer.most_bytes() - scorer.length(), most - done});
    bytes.resize(static_cast<std::size_t>(wanted));
    const std::int64_t offset = stream.offset();
    bytes.resize(stream.read(bytes));
    if (bytes.empty()) break;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      require<FileError>(bytes[i] < scorer.vocabulary(), stream.name(), ": offset ", offset + static_cast<std::int64_t>(i), ": expected a byte below ",
                         scorer.vocabulary(), ", the number of ids of the model, found ", static_cast<int>(bytes[i]));
    ids.assign(bytes.begin(), bytes.end());
    const std::vector<float> logits = scorer.next(ids).to_vector_as<float>();
    on_chunk({done, bytes, logits});
    done += std::ssize(bytes);
    if (std::ssize(bytes) < wanted) break;
  }
  return done;
}

std::int64_t window_count(const ModelConfig& config, std::int64_t bytes) {
  return config.fixed_context() ? (bytes + config.context() - 1) / config.context() : std::min<std::int64_t>(bytes, 1);
}

}  // namespace mblm
