// The plain text data sets `files`, `pg19` and `pg19masked`. Their sequences are cut from streams of bytes.
#pragma once

#include <memory>

#include "train/data/byte_stream.h"
#include "train/data/dataset.h"

namespace mblm {

// Nonoverlapping sequences of L bytes from bytes [begin, end) of a stream. The share of worker w of W is
// [w floor(n / W), (w + 1) floor(n / W)) of the n bytes. Epoch e of a share of m bytes has floor((m - e mod L) / L) sequences;
// sequence i starts (e mod L) + i L bytes after the start of the share, so that the cuts differ between epochs.
class ByteSequences : public Dataset {
 public:
  // Throws FileError if the share is shorter than one sequence, ValueError if one of its bytes is outside the vocabulary. Reads all
  // bytes if the vocabulary has fewer than 256 ids.
  ByteSequences(std::shared_ptr<const ByteStream> stream, std::int64_t begin, std::int64_t end, const DatasetRequest& request);

  std::int64_t size(std::int64_t epoch) const override;
  std::int64_t length() const override { return length_; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::vector<std::string> warnings() const override { return stream_->warnings(); }

 private:
  void check_bytes(std::int64_t num_tokens) const;

  std::shared_ptr<const ByteStream> stream_;
  std::int64_t length_;
  std::int64_t start_, bytes_;  // start and size of the share
};

// Opens a file or folder. A folder with a subfolder train/ has its splits in train/, validation/ and, optionally, test/. For a file
// or any other folder (with subfolders), the last 5 % of the bytes are the validation split and the 5 % before them the test split.
// Throws FileError, and ConfigError if io.dataset_args is set.
std::unique_ptr<Dataset> make_files(const DatasetRequest& request);

// Opens text files in folders train/, validation/ and test/ (Rae et al., "Compressive Transformers", 2020). Each split is one stream
// of bytes. Throws as make_files.
std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request);
// The same sequences for a masked language model (train/data/masked_dataset.h).
std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request);

}  // namespace mblm
