// The data sets of plain text: `files`, `pg19` and `pg19masked`. Their sequences are cut from streams of bytes.
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
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::vector<std::string> warnings() const override { return stream_->warnings(); }

 private:
  void check_bytes(std::int64_t num_tokens) const;

  std::shared_ptr<const ByteStream> stream_;
  std::int64_t length_;
  std::int64_t start_, bytes_;  // of the share
};

// Any file or folder. A folder with a sub-folder train/ has its splits in train/, validation/ and test/; the last one may be
// missing. In a file, or any other folder with all that is below it, the last 5 % of the bytes are for validation, the 5 %
// before them for the test. Throws FileError, ConfigError when there are io.dataset_args.
std::unique_ptr<Dataset> make_files(const DatasetRequest& request);

// Text files in folders train/, validation/ and test/ (Rae et al., "Compressive Transformers", 2020), each split one stream of
// bytes. Throws as make_files.
std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request);
// The same sequences for a masked language model (train/data/masked_dataset.h).
std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request);

}  // namespace mblm
