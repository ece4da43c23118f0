// Numbers about the server for Prometheus.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "serve/scheduler.h"

namespace mblm {

// Thread-safe.
class Metrics {
 public:
  void add_request(const std::string& path, int status, std::chrono::duration<double> time);
  // In Prometheus' text format, version 0.0.4.
  std::string text(const SchedulerCounts& counts, std::uint64_t open_requests) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;  // by path and status
  std::map<std::string, double> seconds_;                          // by path
};

}  // namespace mblm
