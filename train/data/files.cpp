#include "train/data/files.h"

#include "train/data/byte_sequences.h"

namespace mblm {
namespace {

struct ByteRange {
  std::int64_t begin, end;
};

// The ranges of the splits in a stream of `size` bytes: train, test, validation.
ByteRange range_of(Split split, std::int64_t size) {
  const std::int64_t share = size / 20, validation = size - share, test = validation - share;
  switch (split) {
    case Split::Train: return {0, test};
    case Split::Test: return {test, validation};
    case Split::Validation: return {validation, size};
  }
  return {0, 0};
}

}  // namespace

std::unique_ptr<Dataset> make_files(const DatasetRequest& request) {
  refuse_arguments("files", request);
  const bool by_folder = std::filesystem::is_directory(request.path / name_of(Split::Train));
  const std::filesystem::path folder = request.path / name_of(request.split);
  if (by_folder && request.split == Split::Test && !std::filesystem::exists(folder)) return nullptr;
  const auto stream = std::make_shared<const ByteStream>(by_folder ? folder : request.path);
  const ByteRange range = by_folder ? ByteRange{0, stream->size()} : range_of(request.split, stream->size());
  return std::make_unique<ByteSequences>(stream, range.begin, range.end, request);
}

}  // namespace mblm
