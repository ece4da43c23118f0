// mblm convert: converts checkpoints between .safetensors and the Python package's .pth.
#include "engine/error.h"
#include "engine/parallel.h"
#include "mblm/package_checkpoint.h"
#include "program/program.h"
#include "train/run_folder.h"

namespace mblm {
namespace {

void write_package(const ConvertCommand& command, const Model& model, std::optional<double> loss) {
  const PackageLayout layout = command.layout == "0.4.1" ? PackageLayout::V041 : PackageLayout::V042;
  write_package_checkpoint(command.to, model.parameters().named_values(), loss, layout);
}

void write_safetensors(const ConvertCommand& command, const Model& model, std::optional<double> loss) {
  require<ValueError>(!command.layout, "--layout: expected a .pth output file, got ", command.to);
  std::map<std::string, std::string> metadata;
  if (loss) metadata[loss_metadata_key] = shortest_text(*loss);
  save_model(model, command.to, metadata);
}

}  // namespace

int run(const ConvertCommand& command) {
  set_thread_count(1);  // copies only
  const ModelFile from = open_model(command.from);
  const std::unique_ptr<Model> model = load_model(from);  // also checks the parameters
  const bool for_package = std::filesystem::path(command.to).extension() == ".pth";
  (for_package ? write_package : write_safetensors)(command, *model, from.file.loss);
  return 0;
}

}  // namespace mblm
