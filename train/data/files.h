// The data set `files`: any file or folder.
#pragma once

#include "train/data/dataset.h"

namespace mblm {

// A folder with a sub-folder train/ has its splits in train/, validation/ and test/; the last one may be missing. In a
// file, or any other folder with all that is below it, the last 5 % of the bytes are for validation, the 5 % before them for
// the test. Sequences are cut as in train/data/byte_sequences.h. Throws FileError.
std::unique_ptr<Dataset> make_files(const DatasetRequest& request);

}  // namespace mblm
