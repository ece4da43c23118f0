// mblm embed: writes the hidden states of bytes.
#include <unistd.h>

#include "engine/autograd.h"
#include "engine/io/atomic_file.h"
#include "engine/io/safetensors.h"
#include "program/program.h"

namespace mblm {
namespace {

// (L) bytes -> (L, D)
Tensor hidden_states_of(const Model& model, const std::string& bytes) {
  const std::vector<std::int64_t> ids = ids_of(bytes);
  const NoGradScope no_grad;
  const Tensor hidden = model.hidden_states(from_values(Shape{1, static_cast<std::int64_t>(ids.size())}, ids));
  return hidden.reshape(hidden.shape().without_first());
}

// Formats a shape as a Python tuple: (2, 3), (2,), ().
std::string tuple_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return concat_text('(', text, shape.rank() == 1 ? ",)" : ")");
}

// Returns a file in NumPy's format (numpy.lib.format, version 1.0) with one float32 array.
std::string npy_file(const Tensor& x) {
  constexpr std::size_t alignment = 64;  // of the first element in the file, in bytes
  const std::vector<float> elements = x.to_vector<float>();
  std::string file("\x93NUMPY\x01\x00\x00\x00", 10);  // the last two bytes are the length of the header
  file += "{'descr': '<f4', 'fortran_order': False, 'shape': " + tuple_of(x.shape()) + ", }";
  file.resize((file.size() + 1 + alignment - 1) / alignment * alignment - 1, ' ');
  file += '\n';
  const std::size_t header = file.size() - 10;
  file[8] = static_cast<char>(header & 0xff);
  file[9] = static_cast<char>(header >> 8);
  return file.append(reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(float));
}

}  // namespace

int run(const EmbedCommand& command) {
  require<ValueError>(command.output || isatty(STDOUT_FILENO) == 0, "--output: expected a file, standard output is a terminal");
  const std::string bytes = read_input(command.file);
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
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
