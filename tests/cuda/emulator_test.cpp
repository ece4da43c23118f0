// The emulator finds planted mistakes in kernels and names kernel and line.
#include <doctest/doctest.h>

#include <array>
#include <fstream>
#include <string>

#include "cuda/launch.h"
#include "tests/cuda/planted_kernels.h"

namespace mblm::testing {
namespace {

using cuda::check;
using cuda::compute_stream;

constexpr std::size_t bytes = 256 * sizeof(float);

float* allocate() {
  void* p = nullptr;
  check(cudaMalloc(&p, bytes));
  return static_cast<float*>(p);
}

void fill(float* p, float first) {
  std::array<float, 256> values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
  check(cudaMemcpyAsync(p, values.data(), bytes, cudaMemcpyHostToDevice, compute_stream()));
}

// The text of the error, or "" if the kernel ends normally.
std::string error_of(const std::string& kernel) {
  Arrays a{allocate(), allocate()};
  if (kernel != "uninitialized_global") fill(a.x, 0.25f);
  fill(a.y, 0);
  if (kernel == "use_after_free") check(cudaFree(a.x));
  std::string error;
  try {
    planted_kernels().at(kernel)(a);
    check(cudaStreamSynchronize(compute_stream()));
  } catch (const emulator::Error& e) {
    error = e.what();
  }
  if (kernel != "use_after_free") check(cudaFree(a.x));
  check(cudaFree(a.y));
  return error;
}

// "planted_kernels.cpp:LINE" of the line with the comment "// here: NAME".
std::string marked_line(const std::string& kernel) {
  std::ifstream file(MBLM_SOURCE_ROOT "/tests/cuda/planted_kernels.cpp");
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const auto at = line.find("// here: " + kernel);
    if (at != std::string::npos && line.size() == at + 9 + kernel.size()) return "planted_kernels.cpp:" + std::to_string(number);
  }
  return "the marked line of " + kernel;
}

void check_found(const std::string& kernel, const std::string& what) {
  CAPTURE(kernel);
  const std::string error = error_of(kernel);
  CAPTURE(error);
  CHECK(error.find(kernel + ", block (") == 0);
  CHECK(error.find(what) != std::string::npos);
  const std::string line = marked_line(kernel);
  CAPTURE(line);
  CHECK(error.find(line) != std::string::npos);
}

}  // namespace

TEST_CASE("the access checker finds races, unwritten memory and bad addresses") {
  if (!accesses_are_checked()) return;
  check_found("missing_barrier", "read of shared memory that nobody wrote");
  check_found("missing_second_barrier", "race: written while read by thread");
  check_found("missing_syncwarp", "read of shared memory that nobody wrote");
  check_found("syncwarp_of_half", "read of shared memory that nobody wrote");
  emulator::settings().order = emulator::Order::Reverse;
  check_found("syncwarp_of_half", "read of shared memory that nobody wrote");
  emulator::settings().order = emulator::Order::Forward;
  check_found("shuffle_as_barrier", "race: read what is written by thread");
  check_found("race_between_blocks", "race: written also by thread 0 of block (0, 0, 0)");
  check_found("race_between_reading_and_writing_blocks", "race: written while read by thread 0 of block (");
  check_found("race_with_atomics", "race: written also by thread");
  check_found("outside_global", "write outside of an allocation");
  check_found("outside_shared", "access outside of shared memory");
  check_found("misaligned_vector", "misaligned access of 16 bytes");
  check_found("uninitialized_global", "read of memory that nobody wrote");
  check_found("uninitialized_shared", "read of shared memory that nobody wrote");
  check_found("use_after_free", "access to memory that was freed");
  check_found("missing_wait", "read of the target of an asynchronous copy before waiting for it");
  check_found("missing_barrier_after_wait", "race: read what is written by thread");
}

TEST_CASE("a block of a pool is unwritten when it is handed out, and closed behind its end") {
  if (!accesses_are_checked()) return;
  const Arrays a{allocate(), allocate()};
  const auto error_of_reading = [&](std::size_t accessible) {
    fill(a.x, 0);
    emulator::mark_block(compute_stream(), a.x, accessible, bytes);
    check(cudaMemsetAsync(a.x, 0, accessible / 2, compute_stream()));
    planted_kernels().at("uninitialized_global")(a);
    try {
      check(cudaStreamSynchronize(compute_stream()));
    } catch (const emulator::Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(error_of_reading(bytes).find("read of memory that nobody wrote") != std::string::npos);
  CHECK(error_of_reading(0).find("read outside of a block of the pool") != std::string::npos);
  check(cudaMemsetAsync(a.x, 0, bytes, compute_stream()));
  CHECK_THROWS_WITH_AS(check(cudaStreamSynchronize(compute_stream())), "a copy, a fill or a library writes outside of a block of the pool",
                       emulator::Error);
  check(cudaFree(a.x));
  check(cudaFree(a.y));
}

TEST_CASE("asynchronous copies must be waited for and aligned") {
  check_found("copies_without_wait", "cp.async: the thread returns without waiting for its copies");
  check_found("copy_misaligned", "misaligned address: expected a multiple of 16");
}

TEST_CASE("threads must meet at the same barriers and warp operations") {
  check_found("divergent_barrier", "stuck: 156 of 256 threads have returned, 100 wait in __syncthreads");
  check_found("two_barriers", "__syncthreads: thread (0, 0, 0) is at another one");
  check_found("barrier_after_return", "stuck: 6 of 256 threads have returned, 250 wait in __syncthreads");
  check_found("shuffle_with_exited_lanes", "thread (20, 0, 0), planted_kernels.cpp");
  check_found("shuffle_outside_mask", "lane 15 reads lane 16, which the mask does not name");
  check_found("shuffle_not_in_mask", "__shfl_sync: the mask does not name the calling lane");
  check_found("two_warp_operations", "__shfl_xor_sync: lane 0 is at another warp operation or mask");
}

TEST_CASE("launches that a GPU would refuse") {
  CHECK(error_of("too_much_shared_memory") == "too_much_shared_memory: launch refused: 238592 bytes of shared memory, at most 232448");
  CHECK(error_of("bad_grid") == "bad_grid: launch refused: a grid of (1, 70000, 1) blocks");
  CHECK(error_of("bad_block") == "bad_block: launch refused: a block of (1025, 1, 1) threads");
  check_found("more_shared_memory_than_launched", "the kernel uses 1024 bytes and was launched with 128");
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("the end of shared memory is guarded in every build") {
  emulator::settings().check_accesses = false;
  check_found("far_outside_shared", "access outside of shared memory");
  emulator::settings().check_accesses = true;
}
#endif

}  // namespace mblm::testing
