// System calls of the test program, and of the libraries that it uses, which a test can watch, delay or let fail.
#pragma once

#include <functional>

namespace mblm::testing {

// Called instead of the system call, which follows if the result is 0; otherwise the call fails with the result as errno.
struct SystemCallHooks {
  std::function<int(int file)> pread = {}, fsync = {}, lock = {};  // lock: fcntl with F_OFD_SETLK
  std::function<int()> readdir = {}, mkdir = {};
};

// Installs hooks during its lifetime. Set them while no other thread runs; one object at a time.
class HookedSystemCalls {
 public:
  explicit HookedSystemCalls(SystemCallHooks hooks);
  ~HookedSystemCalls();
  HookedSystemCalls(const HookedSystemCalls&) = delete;
  HookedSystemCalls& operator=(const HookedSystemCalls&) = delete;
};

}  // namespace mblm::testing
