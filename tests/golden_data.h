// Golden cases of data sets: what an independent implementation read from data/, in the files of data_cases/.
#pragma once

#include <filesystem>

#include "tests/golden_case.h"

namespace mblm::testing {

// One file. Each tensor in it is compared with what the data set of that name gives, to the last id and weight.
GoldenResult run_data_case(const std::filesystem::path& file);

}  // namespace mblm::testing
