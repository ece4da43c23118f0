#include "train/data/pg19.h"

#include "train/data/byte_sequences.h"
#include "train/data/masked_dataset.h"

namespace mblm {

std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request) {
  refuse_arguments("pg19", request);
  const auto stream = std::make_shared<const ByteStream>(request.path / name_of(request.split));
  return std::make_unique<ByteSequences>(stream, 0, stream->size(), request);
}

std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request) { return std::make_unique<MaskedDataset>(make_pg19(request), request); }

}  // namespace mblm
