// Messages of failed system calls.
#pragma once

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "engine/error.h"

namespace mblm {

// Throws FileError `PATH: WHAT: reason` with the reason of `error` (errno).
[[noreturn]] inline void throw_file_error(const std::filesystem::path& path, const char* what, int error = errno) {
  throw FileError(concat_text(path.string(), ": ", what, ": ", std::generic_category().message(error)));
}

}  // namespace mblm
