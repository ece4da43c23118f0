// A data set on which several workers and a single process train on the same batches.
#pragma once

#include "train/data/dataset.h"

namespace mblm::testing {

// Data set `dealt`: sequences of random ids in batches of dealt_batch. The loss weights of a part of each sequence are zero, so that
// the number of counted bytes differs between batches. Micro-step s of worker w of W has batch s W + w, so that a single process that
// accumulates W times as many micro-batches has the same groups.
inline constexpr std::int64_t dealt_batch = 3, dealt_batches = 24;
DatasetRegistry dealt_registry();

}  // namespace mblm::testing
