// The functions below replace those of the C library for the whole process, since the symbols of a program come before those of its
// libraries. They are declared by their symbols, because headers map some names to others (pread to pread64).
#include "tests/system_calls.h"

#include <dlfcn.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace mblm::testing {
namespace {

SystemCallHooks hooks;

// Whether the hook lets the call fail; sets errno then.
template <class Hook, class... Args>
bool fails(const Hook& hook, Args... args) {
  const int error = hook ? hook(args...) : 0;
  if (error != 0) errno = error;
  return error != 0;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

constexpr int lock_command = 37;  // F_OFD_SETLK, on all architectures of Linux

}  // namespace

HookedSystemCalls::HookedSystemCalls(SystemCallHooks new_hooks) { hooks = std::move(new_hooks); }
HookedSystemCalls::~HookedSystemCalls() { hooks = {}; }

extern "C" {

using ReadAt = std::ptrdiff_t (*)(int, void*, std::size_t, std::int64_t);
std::ptrdiff_t hooked_pread(int file, void* data, std::size_t size, std::int64_t offset) asm("pread");
std::ptrdiff_t hooked_pread(int file, void* data, std::size_t size, std::int64_t offset) {
  static const auto call = real<ReadAt>("pread");
  return fails(hooks.pread, file) ? -1 : call(file, data, size, offset);
}
std::ptrdiff_t hooked_pread64(int file, void* data, std::size_t size, std::int64_t offset) asm("pread64");
std::ptrdiff_t hooked_pread64(int file, void* data, std::size_t size, std::int64_t offset) { return hooked_pread(file, data, size, offset); }

int hooked_fsync(int file) asm("fsync");
int hooked_fsync(int file) {
  static const auto call = real<int (*)(int)>("fsync");
  return fails(hooks.fsync, file) ? -1 : call(file);
}

void* hooked_readdir(void* folder) asm("readdir");
void* hooked_readdir(void* folder) {
  static const auto call = real<void* (*)(void*)>("readdir");
  return fails(hooks.readdir) ? nullptr : call(folder);
}
void* hooked_readdir64(void* folder) asm("readdir64");
void* hooked_readdir64(void* folder) { return hooked_readdir(folder); }

int hooked_mkdir(const char* path, unsigned mode) asm("mkdir");
int hooked_mkdir(const char* path, unsigned mode) {
  static const auto call = real<int (*)(const char*, unsigned)>("mkdir");
  return fails(hooks.mkdir) ? -1 : call(path, mode);
}

int hooked_fcntl(int file, int command, ...) asm("fcntl");
int hooked_fcntl(int file, int command, ...) {
  static const auto call = real<int (*)(int, int, ...)>("fcntl");
  va_list list;
  va_start(list, command);
  void* const argument = va_arg(list, void*);
  va_end(list);
  return command == lock_command && fails(hooks.lock, file) ? -1 : call(file, command, argument);
}
int hooked_fcntl64(int file, int command, void* argument) asm("fcntl64");
int hooked_fcntl64(int file, int command, void* argument) { return hooked_fcntl(file, command, argument); }

}  // extern "C"

}  // namespace mblm::testing
