#include "train/data/byte_sequences.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mblm {

ByteSequences::ByteSequences(std::shared_ptr<const ByteStream> stream, std::int64_t begin, std::int64_t end, const DatasetRequest& request)
    : stream_(std::move(stream)), length_(request.length) {
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

std::int64_t ByteSequences::size(std::int64_t epoch) const { return (bytes_ - epoch % length_) / length_; }

void ByteSequences::read(std::int64_t epoch, std::int64_t index, std::span<std::int64_t> ids, std::span<float>) const {
  require<ValueError>(index >= 0 && index < size(epoch), "data: sequence ", index, " of ", size(epoch));
  const std::int64_t position = start_ + epoch % length_ + index * length_;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(length_));
  stream_->read(position, bytes);
  std::copy(bytes.begin(), bytes.end(), ids.begin());
}

void refuse_arguments(const char* dataset_id, const DatasetRequest& request) {
  require<ConfigError>(request.arguments == nullptr, "io.dataset_args: expected none for the data set ", dataset_id, ", got ",
                       request.arguments == nullptr ? "" : *request.arguments);
}

}  // namespace mblm
