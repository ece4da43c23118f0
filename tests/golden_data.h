// Golden cases of data sets: the files in data_cases/ contain what an independent implementation reads from data/.
#pragma once

#include <filesystem>

#include "tests/golden_case.h"

namespace mblm::testing {

// Checks one file: every id and weight of its tensors must equal those of the data set.
GoldenResult run_data_case(const std::filesystem::path& file);

}  // namespace mblm::testing
