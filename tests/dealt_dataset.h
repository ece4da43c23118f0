// A data set that workers can train on together as one process does alone.
#pragma once

#include "train/data/dataset.h"

namespace mblm::testing {

// `dealt`: sequences of random ids in batches of dealt_batch, the loss weights of a part of each sequence zero, so that batches have
// other counts of bytes. The batches of an epoch are dealt to the workers: micro-step s of worker w of W has batch s W + w, so
// that one process which accumulates W times as many micro-batches has the same groups.
inline constexpr std::int64_t dealt_batch = 3, dealt_batches = 24;
DatasetRegistry dealt_registry();

}  // namespace mblm::testing
