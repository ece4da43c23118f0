// The data sets `pg19` and `pg19masked`: text files in folders train/, validation/ and test/ (Rae et al., "Compressive Transformers", 2020).
#pragma once

#include "train/data/dataset.h"

namespace mblm {

// All splits are there, each one a stream of bytes (train/data/byte_sequences.h). Throws FileError.
std::unique_ptr<Dataset> make_pg19(const DatasetRequest& request);
// The same sequences for a masked language model (train/data/masked_dataset.h).
std::unique_ptr<Dataset> make_pg19_masked(const DatasetRequest& request);

}  // namespace mblm
