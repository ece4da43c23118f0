#include "train/csv.h"

#include <array>
#include <charconv>

namespace mblm {
namespace {

void put(std::string& line, std::string_view field) { line.append(field); }
template <class T>
  requires std::is_arithmetic_v<T>
void put(std::string& line, T number) {
  std::array<char, 32> text;
  line.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr);
}
template <class T> void put(std::string& line, const std::optional<T>& field) {
  if (field) put(line, *field);
}

template <class First, class... Rest>
std::string join(const First& first, const Rest&... rest) {
  std::string line;
  put(line, first);
  ((line.push_back(','), put(line, rest)), ...);
  line.push_back('\n');
  return line;
}

}  // namespace

std::string shortest_text(double number) {
  std::string text;
  put(text, number);
  return text;
}

std::string to_csv(const LossRow& r) {
  return join(r.gpu_rank, r.timestamp, r.elements_seen, r.kind, r.epoch, r.batch, r.cum_batch, r.loss, r.lr, r.avg_grad, r.avg_grad_clipped);
}

std::string to_csv(const TimeMemoryRow& r) {
  return join(r.cum_batch, r.num_items, r.kind, r.fw_time, r.bw_time, r.allocated, r.allocated_max, r.reserved, r.reserved_max, r.total);
}

}  // namespace mblm
