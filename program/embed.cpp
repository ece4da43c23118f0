// mblm embed: the hidden states of bytes.
#include <unistd.h>

#include "engine/autograd.h"
#include "engine/io/atomic_file.h"
#include "engine/io/safetensors.h"
#include "program/npy.h"
#include "program/program.h"

namespace mblm {
namespace {

// (L) bytes -> (L, D)
Tensor hidden_states_of(const Model& model, const std::string& bytes) {
  std::vector<std::int64_t> ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  const NoGradScope no_grad;
  const Tensor hidden = model.hidden_states(from_values(Shape{1, static_cast<std::int64_t>(ids.size())}, ids));
  return hidden.reshape(hidden.shape().without_first());
}

}  // namespace

int run(const EmbedCommand& command) {
  require<ValueError>(command.output || isatty(STDOUT_FILENO) == 0, "--output: expected a file, or standard output that is no terminal");
  const std::string bytes = read_input(command.file);
  const std::unique_ptr<Model> model = open_model(command.model, command.compute);
  const Tensor hidden = hidden_states_of(*model, bytes);
  if (!command.output) {
    write_output(npy_file(hidden));
  } else if (command.output->ends_with(".npy")) {
    write_file_atomically(*command.output, npy_file(hidden));
  } else {
    write_safetensors(*command.output, {{"hidden_states", hidden}});
  }
  return 0;
}

}  // namespace mblm
