// What a run leaves in its folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mblm::testing {

// The full states, the newest last.
std::vector<std::filesystem::path> state_files(const std::filesystem::path& run);
// Micro-steps before the newest state, -1 without one.
std::int64_t saved_micro_steps(const std::filesystem::path& run);

// What must not depend on how often a run was stopped, by name: the checkpoints, the newest state, the samples of the log, and
// the tables without the columns of the clock.
std::map<std::string, std::string> outcome_of(const std::filesystem::path& run);
void check_same(const std::filesystem::path& run, const std::map<std::string, std::string>& wanted);

}  // namespace mblm::testing
