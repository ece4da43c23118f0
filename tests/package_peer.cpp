// The counterpart of tests/package_roundtrip.py in this project:
//   package_peer make CONFIG SEED CHECKPOINT LAYOUT   writes the checkpoint of a new model for the Python package
//   package_peer logits CONFIG CHECKPOINT BATCH       reads ids (int64) from standard input, writes logits (float32) to standard
//                                                     output; for a masked language model, visibility flags (int64) follow the ids
#include <cstring>
#include <iostream>
#include <iterator>

#include "engine/autograd.h"
#include "mblm/checkpoint.h"
#include "mblm/package_checkpoint.h"

namespace {

using namespace mblm;

int make(char** arguments) {
  Model model(read_model_config(arguments[0], BlockRegistry()));
  model.allocate();
  model.initialize(std::stoull(arguments[1]));
  const PackageLayout layout = std::string(arguments[3]) == "0.4.1" ? PackageLayout::V041 : PackageLayout::V042;
  write_package_checkpoint(arguments[2], model.parameters().named_values(), 0.75, layout);
  return 0;
}

template <class T>
Tensor rows_of(std::int64_t rows, const std::vector<T>& values) {
  return from_values<T>(Shape{rows, static_cast<std::int64_t>(values.size()) / rows}, values);
}

int logits(char** arguments) {
  const std::unique_ptr<Model> model = load_model(open_model(arguments[1], BlockRegistry(), arguments[0]));
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  std::vector<std::int64_t> ids(bytes.size() / sizeof(std::int64_t));
  std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(std::int64_t));
  const std::int64_t batch = std::stoll(arguments[2]);
  ForwardContext context;
  if (model->config().is_masked()) {
    const auto middle = ids.begin() + static_cast<std::ptrdiff_t>(ids.size() / 2);
    context.token_mask = rows_of(batch, std::vector<std::uint8_t>(middle, ids.end()));
    ids.erase(middle, ids.end());
  }
  const NoGradScope no_grad;
  const Tensor result = model->logits(rows_of(batch, ids), context);
  std::cout.write(reinterpret_cast<const char*>(result.host_bytes().data()), static_cast<std::streamsize>(result.bytes()));
  return std::cout.flush() ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count == 6 && std::string(arguments[1]) == "make") return make(arguments + 2);
    if (count == 5 && std::string(arguments[1]) == "logits") return logits(arguments + 2);
    std::cerr << "package_peer: expected make CONFIG SEED CHECKPOINT LAYOUT or logits CONFIG CHECKPOINT BATCH\n";
  } catch (const std::exception& error) {
    std::cerr << "package_peer: " << error.what() << '\n';
  }
  return 2;
}
