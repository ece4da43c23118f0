// What the server grants to its clients.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace mblm {

struct ServeLimits {
  std::size_t body = std::size_t{1} << 20;     // bytes of a request's body, also after decompression
  std::int64_t tokens = 4096;                  // bytes that a continuation may have
  std::size_t rows = 64;                       // continuations that are computed at the same time
  std::size_t queue = 256;                     // continuations that wait for their turn
  std::size_t connections = 400;               // open at the same time; each has a thread
  std::chrono::milliseconds request{600'000};  // from the arrival of a request to the end of its computation
  std::chrono::milliseconds receive{20'000};   // to receive a request completely, to wait for the next one, and for a client to take any data
};

}  // namespace mblm
