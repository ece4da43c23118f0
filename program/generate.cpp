// mblm generate: continues a prompt and writes each byte as it is generated.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "program/byte_writer.h"
#include "program/program.h"

namespace mblm {
namespace {

std::string prompt_bytes(const GenerateCommand& command) {
  return command.prompt_from_input || command.prompt_file ? read_input(command.prompt_file) : command.prompt;
}

OutputForm output_form(const std::optional<std::string>& format) {
  if (!format) return isatty(STDOUT_FILENO) != 0 ? OutputForm::Text : OutputForm::Raw;
  if (*format == "ids") return OutputForm::Ids;
  return *format == "text" ? OutputForm::Text : OutputForm::Raw;
}

// Decodes to well-formed UTF-8, which JSON requires.
std::string as_text(const std::vector<std::int64_t>& ids) {
  Utf8Decoder decoder;
  std::string text;
  for (const std::int64_t id : ids)
    if (id <= 255) text += decoder.push(static_cast<std::uint8_t>(id));
  return text + decoder.flush();
}

void write_json(const std::vector<std::int64_t>& prompt, const std::vector<std::int64_t>& ids) {
  nlohmann::ordered_json line;
  line["prompt"] = as_text(prompt);
  line["ids"] = ids;
  line["text"] = as_text(ids);
  write_output(line.dump() + "\n");
}

}  // namespace

int run(const GenerateCommand& command) {
  const std::string bytes = prompt_bytes(command);
  std::vector<std::int64_t> prompt;
  for (const char c : bytes) prompt.push_back(static_cast<unsigned char>(c));

  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  const std::int64_t context = model->config().context(), length = static_cast<std::int64_t>(prompt.size());
  require<ValueError>(command.tokens || length < context, "--prompt: expected fewer bytes than the model's context of ", context,
                      " without --tokens, got ", length);

  ByteWriter writer(output_form(command.format), write_output);
  for (std::int64_t sequence = 0; sequence < command.count; ++sequence) {
    const auto stream = [&](std::int64_t id) {
      writer.put(id);
      return true;
    };
    const auto on_id = command.json ? std::function<bool(std::int64_t)>{} : stream;
    const std::vector<std::int64_t> ids = generate(*model, prompt, command.tokens, command.sampling, on_id, sequence);
    if (command.json) {
      write_json(prompt, ids);
    } else {
      writer.finish();
    }
  }
  return 0;
}

}  // namespace mblm
