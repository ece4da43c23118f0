// The plain text data sets `files`, `pg19` and `pg19masked`: sequences cut from streams of bytes, and masks over sequences.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "train/data/byte_scan.h"
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
  std::string describe() const override;
  std::vector<std::string> warnings() const override { return stream_->warnings(); }
  // These scan the bytes of the share (train/data/byte_scan.h) at the first call.
  std::string fingerprint() const override;
  double padding_share() const override { return scan().share_of(pad_token_id_); }
  std::string extent() const override;

 private:
  void check_bytes(std::int64_t num_tokens) const;
  const ByteScan& scan() const;

  std::shared_ptr<const ByteStream> stream_;
  std::int64_t length_;
  std::int64_t pad_token_id_;
  std::int64_t start_, bytes_;  // start and size of the share
  mutable std::once_flag scanned_;
  mutable ByteScan scan_;
};

// The sequences of another data set, in which each id is replaced by `mask_token_id` with probability `masking.probability`. The
// labels are the original ids at these places. Answers are dropped. The masked places are a function of the seed, the split, the
// worker, the epoch and the place of the id in the epoch, so that a sequence is masked identically at each read.
class MaskedDataset final : public Dataset {
 public:
  // Uses masking, seed, split and worker of `request`. Throws ConfigError if the request has no masking, ValueError if the original
  // data set already has labels.
  MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request);

  std::int64_t size(std::int64_t epoch) const override { return original_->size(epoch); }
  std::int64_t length() const override { return original_->length(); }
  SequenceParts parts() const override { return {.loss_mask = original_->parts().loss_mask, .labels = true}; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::string describe() const override { return original_->describe(); }
  std::vector<std::string> warnings() const override { return original_->warnings(); }
  std::string fingerprint() const override { return original_->fingerprint(); }
  double padding_share() const override { return original_->padding_share(); }
  std::string extent() const override { return original_->extent(); }

 private:
  const std::unique_ptr<Dataset> original_;
  const Masking masking_;
  const RandomKey key_;  // for epoch 0
};

// The bytes [begin, end) of a stream.
struct SplitBytes {
  std::shared_ptr<const ByteStream> stream;
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};
// Opens a split of a file or folder. A folder with a subfolder train/ has its splits in train/, validation/ (or valid/ or val/) and,
// optionally, test/; nothing for a missing test split. For a file or any other folder (with subfolders, in the order of the paths), the
// last 5 % of the bytes are the validation split and the 5 % before them the test split. Split::All is all files of the folder. Throws FileError.
std::optional<SplitBytes> bytes_of_split(const std::filesystem::path& path, Split split);

// Whether a path has its splits in folders.
bool has_split_folders(const std::filesystem::path& path);

// The sequences of bytes_of_split. Throws FileError, and ConfigError if io.dataset_args is set.
std::unique_ptr<Dataset> make_files(const DatasetRequest& request);

// Opens text files in folders train/, validation/ (or valid/ or val/) and test/ (Rae et al., "Compressive Transformers", 2020). Each split is one stream
// of bytes. Throws as make_files.
std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request);
// The same sequences, masked.
std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request);

}  // namespace mblm
