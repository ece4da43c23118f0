#include "train/run_state.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <string_view>

namespace mblm {
namespace {

using Metadata = std::map<std::string, std::string>;
constexpr const char* warmup_key = "warmup_steps";
constexpr const char* hooks_key = "hooks";  // only in runs with hooks
constexpr const char* format_key = "mblm_state";
constexpr const char *format = "3", *format_without_data = "2";  // versions of the names and meanings below
// Entries that states of earlier versions do not have: their defaults hold.
constexpr std::string_view later_entries[] = {"gradient_norm",   "loss_average_sum",     "loss_average_weight", "validations",
                                              "best_validation", "best_validation_loss", "ended_length"};

// Declares the numbers once, for writing and reading.
template <class State, class Visit>
void visit_numbers(State& state, const Visit& visit) {
  auto& training = state.training;
  visit("micro_step", training.micro_step);
  visit("steps", training.steps);
  visit("skipped_steps", training.skipped_steps);
  visit("elements", training.elements);
  visit("epoch", training.epoch);
  visit("batch", training.batch);
  visit("done_epoch", training.done_epoch);
  visit("done_batch", training.done_batch);
  visit("validation_due", training.validation_due);
  visit("avg_grad", training.avg_grad);
  visit("avg_grad_clipped", training.avg_grad_clipped);
  visit("first_batch", training.first_batch);
  visit("gradient_norm", training.gradient_norm);
  visit("loss_average_sum", training.loss_average.sum);
  visit("loss_average_weight", training.loss_average.weight);
  visit("validations", training.validations);
  visit("best_validation", training.best_validation);
  visit("best_validation_loss", training.best_validation_loss);
  visit("ended_length", training.ended_length);
  visit("sequences", state.sequences);
  visit("loss_rows", state.rows.loss);
  visit("timemem_rows", state.rows.time_memory);
}

std::string number_text(std::int64_t number) { return std::to_string(number); }
std::string number_text(double number) { return shortest_text(number); }

// Removes a number and the separator after it from the front of `text`. Throws FileError for other text.
template <class T>
T take_number(const std::string& where, std::string_view& text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  require<FileError>(error == std::errc(), where, ": expected a number, found \"", text, '"');
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (!text.empty()) text.remove_prefix(1);
  return number;
}

// `LOSS@MICRO_STEP,LOSS@MICRO_STEP`
std::string best_text(const std::vector<Checkpoint>& best) {
  std::string text;
  for (const Checkpoint& checkpoint : best) text += concat_text(text.empty() ? "" : ",", number_text(checkpoint.loss), "@", checkpoint.micro_step);
  return text;
}

std::vector<Checkpoint> parse_best(const std::string& where, std::string_view text) {
  std::vector<Checkpoint> best;
  while (!text.empty()) {
    const double loss = take_number<double>(where, text);
    best.push_back({loss, take_number<std::int64_t>(where, text)});
  }
  return best;
}

const std::string& entry_of(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  require<FileError>(found != file.metadata().end(), file.path().string(), ": expected a run state with an entry ", key, ", there is none");
  return found->second;
}

void check_whole(const SafetensorsFile& file) {
  const std::string& found = entry_of(file, format_key);
  require<FileError>(found == format || found == format_without_data, file.path().string(), ": expected a run state of format ", format, ", found ", found);
  file.check();
}

}  // namespace

void write_run_state(const std::filesystem::path& path, const RunState& state, const std::vector<NamedTensor>& tensors) {
  Metadata metadata{{format_key, format}, {"best", best_text(state.best)}, {"config", state.config}, {"data", state.data}};
  visit_numbers(state, [&](const char* name, const auto& number) { metadata[name] = number_text(number); });
  if (state.warmup_steps) metadata[warmup_key] = number_text(*state.warmup_steps);
  if (!state.hooks.empty()) metadata[hooks_key] = state.hooks;
  write_checked_safetensors(path, tensors, metadata);
}

SavedState read_run_state(const std::filesystem::path& path) {
  SavedState saved{{}, SafetensorsFile(path)};
  check_whole(saved.tensors);
  visit_numbers(saved.state, [&]<class T>(const char* name, T& number) {
    const bool is_later = std::find(std::begin(later_entries), std::end(later_entries), name) != std::end(later_entries);
    if (is_later && saved.tensors.metadata().count(name) == 0) return;
    std::string_view text = entry_of(saved.tensors, name);
    number = take_number<T>(concat_text(path.string(), ": ", name), text);
  });
  if (saved.tensors.metadata().count(warmup_key) != 0) {
    std::string_view text = entry_of(saved.tensors, warmup_key);
    saved.state.warmup_steps = take_number<std::int64_t>(concat_text(path.string(), ": ", warmup_key), text);
  }
  if (saved.tensors.metadata().count(hooks_key) != 0) saved.state.hooks = entry_of(saved.tensors, hooks_key);
  saved.state.best = parse_best(path.string() + ": best", entry_of(saved.tensors, "best"));
  saved.state.config = entry_of(saved.tensors, "config");
  if (entry_of(saved.tensors, format_key) != format_without_data) saved.state.data = entry_of(saved.tensors, "data");
  return saved;
}

}  // namespace mblm
