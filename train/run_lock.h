// One program at a time works on a run.
#pragma once

#include <filesystem>
#include <string>

#include "engine/io/file.h"

namespace mblm {

// Held until it is destroyed or the process ends, however it ends. On file systems that have no locks nothing is held.
class RunLock {
 public:
  // Locks `file`, which is made when it is not there, and writes the process's id into it. Throws FileError, with `run` in
  // front and with the other's id, when it is held.
  RunLock(const std::filesystem::path& file, const std::filesystem::path& run);

  // The id of the process that holds it, "unknown" when it does not tell; empty: nobody.
  static std::string holder(const std::filesystem::path& file);

 private:
  FileDescriptor file_;
};

}  // namespace mblm
