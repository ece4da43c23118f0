#include "train/data/text_datasets.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/io/folder.h"

namespace mblm {
namespace {

struct ByteRange {
  std::int64_t begin, end;
};

// The range of a split in a stream of `size` bytes. The splits are in the order train, test, validation.
ByteRange range_of(Split split, std::int64_t size) {
  const std::int64_t share = size / 20, validation = size - share, test = validation - share;
  switch (split) {
    case Split::Train: return {0, test};
    case Split::Test: return {test, validation};
    case Split::Validation: return {validation, size};
    case Split::All: break;
  }
  return {0, size};
}

// The folder of a split. People name the validation split in three ways.
std::filesystem::path folder_of(const std::filesystem::path& path, Split split) {
  if (split == Split::Validation)
    for (const char* name : {"validation", "valid", "val"})
      if (path_exists(path / name)) return path / name;
  return path / name_of(split);
}

void refuse_arguments(const char* dataset_id, const DatasetRequest& request) {
  require<ConfigError>(request.arguments == nullptr, "io.dataset_args: expected none for data set ", dataset_id, ", got ",
                       request.arguments == nullptr ? "" : shown_text(*request.arguments));
}

Masking required_masking(const DatasetRequest& request) {
  require<ConfigError>(request.masking.has_value(),
                       "io.dataset_id: expected a data set without masks, the model is not a masked language model "
                       "(params.mask_token_id, params.mblm_config)");
  return *request.masking;
}

}  // namespace

ByteSequences::ByteSequences(std::shared_ptr<const ByteStream> stream, std::int64_t begin, std::int64_t end, const DatasetRequest& request)
    : stream_(std::move(stream)), length_(request.length), pad_token_id_(request.pad_token_id) {
  require<ValueError>(length_ >= 1, "data: expected sequences of at least one byte, got ", length_);
  const bool cut = request.split == Split::Train && request.workers > 1;
  bytes_ = cut ? (end - begin) / request.workers : end - begin;
  start_ = cut ? begin + request.worker * bytes_ : begin;
  const bool part = cut || bytes_ != stream_->size();
  require<FileError>(bytes_ >= length_, stream_->path().string(), ": expected at least ", length_, " bytes of text for one sequence, found ", bytes_,
                     part ? concat_text(" in the ", name_of(request.split), " part", cut ? " of a worker" : "") : "");
  if (request.num_tokens < 256) check_bytes(request.num_tokens);
}

void ByteSequences::check_bytes(std::int64_t num_tokens) const {
  std::vector<std::uint8_t> bytes;
  for (std::int64_t done = 0; done < bytes_; done += std::ssize(bytes)) {
    bytes.resize(static_cast<std::size_t>(std::min<std::int64_t>(bytes_ - done, 1 << 20)));
    stream_->read(start_ + done, bytes);
    const auto wrong = std::find_if(bytes.begin(), bytes.end(), [&](std::uint8_t byte) { return byte >= num_tokens; });
    if (wrong == bytes.end()) continue;
    throw ValueError(concat_text(stream_->describe(start_ + done + (wrong - bytes.begin())), ": expected bytes below num_tokens ", num_tokens, ", found ", int{*wrong}));
  }
}

const ByteScan& ByteSequences::scan() const {
  std::call_once(scanned_, [this] { scan_ = scan_bytes(*stream_, start_, start_ + bytes_); });
  return scan_;
}

std::string ByteSequences::fingerprint() const { return concat_text(bytes_, " bytes, checksum ", scan().checksum); }

std::string ByteSequences::extent() const {
  if (bytes_ == stream_->size()) return {};
  return concat_text(stream_->path().string(), ": bytes ", start_, " to ", start_ + bytes_ - 1, " of ", stream_->size());
}

std::int64_t ByteSequences::size(std::int64_t epoch) const { return (bytes_ - epoch % length_) / length_; }

void ByteSequences::read(std::int64_t epoch, std::int64_t index, const Sequence& out) const {
  require<ValueError>(index >= 0 && index < size(epoch), "data: expected a sequence in [0, ", size(epoch), "), got ", index);
  const std::int64_t position = start_ + epoch % length_ + index * length_;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(length_));
  stream_->read(position, bytes);
  std::copy(bytes.begin(), bytes.end(), out.ids.begin());
}

MaskedDataset::MaskedDataset(std::unique_ptr<Dataset> original, const DatasetRequest& request)
    : original_(std::move(original)),
      masking_(required_masking(request)),
      key_{request.seed, site_of(concat_text("masking.", name_of(request.split), ".", request.worker)), 0} {
  require<ValueError>(!original_->parts().labels, "masked data: expected a data set without labels");
}

void MaskedDataset::read(std::int64_t epoch, std::int64_t index, const Sequence& out) const {
  Answer unused;
  original_->read(epoch, index, {.ids = out.ids, .loss_mask = out.loss_mask, .answer = original_->parts().answers ? &unused : nullptr});
  const RandomKey key{key_.seed, key_.site, static_cast<std::uint32_t>(epoch)};
  for (std::size_t i = 0; i < out.ids.size(); ++i) {
    const bool is_masked = random_uniform(key, static_cast<std::uint64_t>(index * length()) + i) < masking_.probability;
    out.labels[i] = is_masked ? out.ids[i] : no_label;
    if (is_masked) out.ids[i] = masking_.mask_token_id;
  }
}

std::string ByteSequences::describe() const {
  const std::int64_t all = stream_->size();
  if (bytes_ == all) return concat_text(bytes_, " bytes: ", stream_->describe_files());
  return concat_text(bytes_, " bytes: ", start_, " to ", start_ + bytes_, " of the ", all, " of ", stream_->describe_files());
}

bool has_split_folders(const std::filesystem::path& path) { return is_folder(path / name_of(Split::Train)); }

std::optional<SplitBytes> bytes_of_split(const std::filesystem::path& path, Split split) {
  const bool by_folder = has_split_folders(path) && split != Split::All;
  const std::filesystem::path folder = folder_of(path, split);
  if (by_folder && split == Split::Test && !path_exists(folder)) return {};
  const auto stream = std::make_shared<const ByteStream>(by_folder ? folder : path);
  const ByteRange range = by_folder ? ByteRange{0, stream->size()} : range_of(split, stream->size());
  return SplitBytes{stream, range.begin, range.end};
}

std::unique_ptr<Dataset> make_files(const DatasetRequest& request) {
  refuse_arguments("files", request);
  const std::optional<SplitBytes> bytes = bytes_of_split(request.path, request.split);
  return bytes ? std::make_unique<ByteSequences>(bytes->stream, bytes->begin, bytes->end, request) : nullptr;
}

std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request) {
  refuse_arguments("pg19", request);
  const auto stream = std::make_shared<const ByteStream>(request.split == Split::All ? request.path : folder_of(request.path, request.split));
  return std::make_unique<ByteSequences>(stream, 0, stream->size(), request);
}

std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request) { return std::make_unique<MaskedDataset>(make_pg19(request), request); }

}  // namespace mblm
