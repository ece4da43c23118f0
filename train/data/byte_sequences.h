// Sequences cut from a stream of bytes: the data sets of plain text.
#pragma once

#include <memory>

#include "train/data/byte_stream.h"
#include "train/data/dataset.h"

namespace mblm {

// Sequences of L bytes that do not overlap, from bytes [begin, end) of a stream. Worker w of W has the share
// [w floor(n / W), (w + 1) floor(n / W)) of the n bytes. In a share of m bytes epoch e has floor((m - e mod L) / L)
// sequences, and sequence i starts (e mod L) + i L bytes after the share's start, so that each epoch cuts differently.
class ByteSequences : public Dataset {
 public:
  // Throws FileError when the share is shorter than one sequence, ValueError when one of its bytes is outside the
  // vocabulary (all are read where it has less than 256 ids).
  ByteSequences(std::shared_ptr<const ByteStream> stream, std::int64_t begin, std::int64_t end, const DatasetRequest& request);

  std::int64_t size(std::int64_t epoch) const override;
  std::int64_t length() const override { return length_; }
  void read(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> ids, std::span<float> loss_mask) const override;
  std::vector<std::string> warnings() const override { return stream_->warnings(); }

 private:
  void check_bytes(std::int64_t num_tokens) const;

  std::shared_ptr<const ByteStream> stream_;
  std::int64_t length_;
  std::int64_t start_, bytes_;  // of the share
};

// The data sets of plain text take no io.dataset_args: throws ConfigError when there are some.
void refuse_arguments(const char* dataset_id, const DatasetRequest& request);

}  // namespace mblm
