// CLEVR's files in the smallest form, and a configuration that trains on them.
#pragma once

#include <cstdint>
#include <string>

#include "tests/temporary_folder.h"

namespace mblm::testing {

inline constexpr std::int64_t clevr_questions = 40;  // 8 of each kind but query_attribute, which has 16, and compare_integer, which has none

// Writes questions whose answers are of several lengths and kinds, over images of one pixel, of the splits train and val.
void write_clevr(const TemporaryFolder& folder, const std::string& name);

// A run of tiny_model on them that takes a moment: writes data/ and config.yaml, and gives the configuration's path.
std::string prepare_clevr_run(const TemporaryFolder& folder);

}  // namespace mblm::testing
