// The outcome of a run: the contents of its folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mblm::testing {

// The state files, newest last.
std::vector<std::filesystem::path> state_files(const std::filesystem::path& run);
// The number of micro-steps of the newest state, -1 without a state.
std::int64_t saved_micro_steps(const std::filesystem::path& run);

// Everything that must not depend on interruptions, by name: the checkpoints, the newest state, the samples in the log, and the
// tables without times and memory.
std::map<std::string, std::string> outcome_of(const std::filesystem::path& run);
void check_same(const std::filesystem::path& run, const std::map<std::string, std::string>& wanted);

}  // namespace mblm::testing
