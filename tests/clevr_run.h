// Minimal CLEVR files and a config that trains on them.
#pragma once

#include <cstdint>
#include <string>

#include "tests/temporary_folder.h"

namespace mblm::testing {

inline constexpr std::int64_t clevr_questions = 40;  // 16 of kind query_attribute, none of kind compare_integer, 8 of each other kind

// Writes the splits train and val: images of one pixel, and questions with answers of different lengths and kinds.
void write_clevr(const TemporaryFolder& folder, const std::string& name);

// Prepares a short run of tiny_model: writes data/ and config.yaml and returns the path of the config.
std::string prepare_clevr_run(const TemporaryFolder& folder);

}  // namespace mblm::testing
