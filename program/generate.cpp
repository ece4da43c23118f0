// mblm generate: continues a prompt and writes each byte as it is generated.
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "mblm/sequence_state_file.h"
#include "mblm/stop_text.h"
#include "program/byte_writer.h"
#include "program/program.h"

namespace mblm {
namespace {

using Clock = std::chrono::steady_clock;
using Ids = std::vector<std::int64_t>;

double milliseconds_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

OutputForm output_form(const std::optional<std::string>& format) {
  if (!format) return isatty(STDOUT_FILENO) != 0 ? OutputForm::Text : OutputForm::Raw;
  if (*format == "ids") return OutputForm::Ids;
  return *format == "text" ? OutputForm::Text : OutputForm::Raw;
}

// Decodes to well-formed UTF-8, which JSON requires.
std::string as_text(const Ids& ids) {
  Utf8Decoder decoder;
  std::string text;
  for (const std::int64_t id : ids)
    if (id <= 255) text += decoder.push(static_cast<std::uint8_t>(id));
  return text + decoder.flush();
}

Ids ids_of(const std::string& bytes) {
  Ids ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

// One continuation, with what --json prints about it.
struct Continuation {
  Ids ids;  // without the stop text
  std::vector<double> log_probabilities;
  double milliseconds = 0;
};

class Program {
 public:
  explicit Program(const GenerateCommand& command)
      : command_(command), model_(load_model(command.model, command.compute)), generator_(*model_), writer_(output_form(command.format), write_output) {
    check_sampling(command.sampling, model_->config().num_tokens);
    if (command.load_state) start_ = load_sequence(*command.load_state, *model_);
  }

  // Continues the prompt as often as --count says. Returns when all have been written.
  void answer(const Ids& prompt) {
    const auto start = Clock::now();
    const ModelConfig& config = model_->config();
    const std::int64_t length = start_.state.length + std::ssize(prompt);
    require<ValueError>(command_.tokens || length < config.context(), "--prompt: expected fewer bytes than the model's context of ", config.context(),
                        " without --tokens, got ", length);
    const std::int64_t most = ids_to_add(config, length, command_.tokens);
    const Generator::Row row = start_.state.stages.empty() ? generator_.join() : generator_.join(start_.state);
    generator_.feed(row, prompt);
    SavedSequence after{generator_.snapshot(row), start_.seen};
    std::set<std::int64_t> seen(after.seen.begin(), after.seen.end());
    seen.insert(prompt.begin(), prompt.end());
    after.seen.assign(seen.begin(), seen.end());
    if (command_.save_state) save_sequence(*command_.save_state, *model_, after);
    const double prompt_milliseconds = milliseconds_since(start);
    for (std::int64_t n = 0; n < command_.count; ++n) {
      if (n > 0) generator_.restore(row, after.state);
      Sampler sampler(command_.sampling, config.num_tokens, n);
      sampler.see(after.seen);
      const Continuation continuation = continue_row(row, most, sampler);
      if (command_.json) write_json(prompt, continuation, prompt_milliseconds);
    }
    generator_.leave(row);
  }

 private:
  Continuation continue_row(Generator::Row row, std::int64_t most, Sampler& sampler) {
    const auto start = Clock::now();
    Continuation result;
    StopText stop(command_.stop_texts);
    std::vector<double> held;  // log-probabilities of the ids that `stop` holds back
    const auto emit = [&](const Ids& ids) {
      for (const std::int64_t id : ids) {
        result.ids.push_back(id);
        if (!command_.json) writer_.put(id);
      }
      result.log_probabilities.insert(result.log_probabilities.end(), held.begin(), held.begin() + std::ssize(ids));
      held.erase(held.begin(), held.begin() + std::ssize(ids));
    };
    generate(generator_, row, most, sampler, [&](std::int64_t id, std::span<const float> logits) {
      held.push_back(command_.logprobs ? log_probability(logits, id) : 0);
      emit(stop.push(id));
      return !stop.stopped();
    });
    emit(stop.flush());
    if (!command_.json) writer_.finish();
    result.milliseconds = milliseconds_since(start);
    return result;
  }

  void write_json(const Ids& prompt, const Continuation& continuation, double prompt_milliseconds) const {
    nlohmann::ordered_json line;
    line["prompt"] = as_text(prompt);
    line["ids"] = continuation.ids;
    line["text"] = as_text(continuation.ids);
    if (command_.logprobs) line["logprobs"] = continuation.log_probabilities;
    const auto count = static_cast<double>(continuation.ids.size());
    line["timings"] = {{"prompt_bytes", prompt.size()},
                       {"prompt_ms", prompt_milliseconds},
                       {"generated_ms", continuation.milliseconds},
                       {"ms_per_byte", count > 0 ? continuation.milliseconds / count : 0.0}};
    write_output(line.dump() + "\n");
  }

  const GenerateCommand& command_;
  const std::unique_ptr<Model> model_;
  Generator generator_;
  SavedSequence start_;  // --load-state
  ByteWriter writer_;
};

// Each line of the terminal is a prompt.
void answer_lines(Program& program) {
  constexpr std::string_view mark = "> ";
  std::string line;
  while (true) {
    [[maybe_unused]] const ssize_t shown = ::write(STDERR_FILENO, mark.data(), mark.size());
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    try {
      program.answer(ids_of(line));
    } catch (const ValueError& error) {  // such as a line longer than the context
      write_note(error.what());
    }
  }
  write_output("\n");
}

}  // namespace

int run(const GenerateCommand& command) {
  const bool has_prompt = command.prompt || command.prompt_file || command.prompt_from_input;
  if (!has_prompt && !command.save_state && !command.load_state && isatty(STDIN_FILENO) != 0) {
    Program program(command);
    answer_lines(program);
    return 0;
  }
  const Ids prompt = ids_of(command.prompt_from_input || command.prompt_file ? read_input(command.prompt_file) : command.prompt.value_or(""));
  Program(command).answer(prompt);
  return 0;
}

}  // namespace mblm
