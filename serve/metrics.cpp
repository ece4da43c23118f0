#include "serve/metrics.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

namespace mblm {
namespace {

std::uint64_t resident_bytes() {
  std::uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

void head(std::ostream& out, const char* name, const char* kind, const char* help) {
  out << "# HELP " << name << ' ' << help << "\n# TYPE " << name << ' ' << kind << '\n';
}

template <class T>
void one(std::ostream& out, const char* name, const char* kind, const char* help, T value) {
  head(out, name, kind, help);
  out << name << ' ' << value << '\n';
}

}  // namespace

void Metrics::add_request(const std::string& path, int status, std::chrono::duration<double> time) {
  const std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
  seconds_[path] += time.count();
}

std::string Metrics::text(const SchedulerCounts& counts, std::uint64_t open_requests) const {
  std::ostringstream out;
  out.precision(15);
  one(out, "mblm_prompt_bytes_total", "counter", "Bytes of prompts that were processed.", counts.prompt_bytes);
  one(out, "mblm_generated_bytes_total", "counter", "Bytes that were generated.", counts.generated_bytes);
  one(out, "mblm_steps_total", "counter", "Batches that were computed.", counts.steps);
  one(out, "mblm_step_rows_total", "counter", "Rows of these batches: divided by the batches, the mean batch size.", counts.step_rows);
  head(out, "mblm_continuations_total", "counter", "Continuations that ended, by how.");
  out << "mblm_continuations_total{end=\"finished\"} " << counts.finished << "\nmblm_continuations_total{end=\"abandoned\"} " << counts.abandoned
      << "\nmblm_continuations_total{end=\"timed_out\"} " << counts.timed_out << "\nmblm_continuations_total{end=\"failed\"} " << counts.failed << '\n';
  one(out, "mblm_rows", "gauge", "Continuations that are being computed.", counts.rows);
  one(out, "mblm_waiting", "gauge", "Continuations that wait for their turn.", counts.waiting);
  one(out, "mblm_open_completions", "gauge", "Completions whose answer has not been sent.", open_requests);
  one(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident_bytes());
  const std::lock_guard lock(mutex_);
  head(out, "mblm_http_requests_total", "counter", "Requests by path and status.");
  for (const auto& [key, count] : requests_) out << "mblm_http_requests_total{path=\"" << key.first << "\",status=\"" << key.second << "\"} " << count << '\n';
  head(out, "mblm_http_request_seconds_total", "counter", "Time from the first byte of a request to the end of its answer, by path.");
  for (const auto& [path, seconds] : seconds_) out << "mblm_http_request_seconds_total{path=\"" << path << "\"} " << seconds << '\n';
  return std::move(out).str();
}

}  // namespace mblm
