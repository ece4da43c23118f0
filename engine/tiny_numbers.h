// The floating-point mode of kernels.
#pragma once

#include <cstdint>

namespace mblm {

// During its lifetime this thread treats numbers below the smallest normal one (2^-126 in float32, 2^-1022 in float64) as zero, as
// operands and as results; the destructor restores the mode. Processors take up to a hundred times longer for such numbers. Kernels
// and tiles run in this mode (engine/kernel.h, engine/parallel.h), so results do not depend on the mode of the caller. The mode holds
// for functions that are called in the scope: the compiler may move arithmetic across a change of mode, but not across a call.
// Has no effect on processors other than x86-64 and AArch64.
class TinyNumbersAsZero {
 public:
  TinyNumbersAsZero() : before_(mode()) {
    if (before_ != with_zeros(before_)) set_mode(with_zeros(before_));
  }
  ~TinyNumbersAsZero() {
    if (before_ != with_zeros(before_)) set_mode(before_);
  }
  TinyNumbersAsZero(const TinyNumbersAsZero&) = delete;
  TinyNumbersAsZero& operator=(const TinyNumbersAsZero&) = delete;

 private:
#if defined(__x86_64__)
  static std::uint64_t mode() { return __builtin_ia32_stmxcsr(); }
  static void set_mode(std::uint64_t mode) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode)); }
  static constexpr std::uint64_t with_zeros(std::uint64_t mode) { return mode | 0x8000 | 0x0040; }  // FTZ and DAZ of MXCSR
#elif defined(__aarch64__)
  static std::uint64_t mode() {
    std::uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set_mode(std::uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
  static constexpr std::uint64_t with_zeros(std::uint64_t mode) { return mode | std::uint64_t{1} << 24; }  // FZ of FPCR
#else
  static std::uint64_t mode() { return 0; }
  static void set_mode(std::uint64_t) {}
  static constexpr std::uint64_t with_zeros(std::uint64_t mode) { return mode; }
#endif

  const std::uint64_t before_;
};

}  // namespace mblm
