#include "tests/golden_data.h"

#include <map>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "train/data/dataset.h"

namespace mblm::testing {
namespace {

std::vector<std::int64_t> ids_of(const Dataset& dataset, std::int64_t epoch, std::int64_t index) {
  return read_batch(dataset, {epoch, index, 1}).ids.to_vector<std::int64_t>();
}

bool equals_pg19(const std::filesystem::path& data, const std::smatch& part, const Tensor& expected) {
  DatasetRequest request{.path = data, .length = std::stoll(part[2])};
  request.split = part[1] == "validation" ? Split::Validation : part[1] == "test" ? Split::Test : Split::Train;
  request.worker = std::stoll(part[3]);
  request.workers = std::stoll(part[4]);
  const std::unique_ptr<Dataset> dataset = DatasetRegistry().make("pg19", request);
  const std::int64_t epoch = std::stoll(part[5]);
  if (part[6] == "length") return dataset->size(epoch) == static_cast<std::int64_t>(expected.item());
  const std::vector<std::uint8_t> bytes = expected.to_vector<std::uint8_t>();
  return ids_of(*dataset, epoch, std::stoll(part[6])) == std::vector<std::int64_t>(bytes.begin(), bytes.end());
}

// Tensors `[SPLIT.]L<length>.worker<w>of<W>.epoch<e>.<index>` are sequences; `.length` instead of the index is their number.
void check_pg19(const SafetensorsFile& expected, const std::filesystem::path& data, GoldenResult& result) {
  const std::regex form(R"((?:(\w+)\.)?L(\d+)\.worker(\d+)of(\d+)\.epoch(\d+)\.(\w+))");
  for (const std::string& name : expected.names()) {
    std::smatch part;
    if (!std::regex_match(name, part, form)) result.failures.push_back(name + ": not a name of this kind of case");
    else if (!equals_pg19(data, part, expected.tensor(name))) result.failures.push_back(name + ": differs");
  }
}

// Tensors `SPLIT.<index>.ids` and `.mask`; the metadata contains the arguments.
void check_clevr(const SafetensorsFile& expected, const std::filesystem::path& data, GoldenResult& result) {
  const std::map<std::string, std::string>& metadata = expected.metadata();
  DatasetRequest request{.path = data, .arguments = std::make_shared<const std::string>(metadata.at("dataset_args"))};
  request.length = std::stoll(metadata.at("input_seq_len"));
  request.pad_token_id = std::stoll(metadata.at("pad_token_id"));
  request.num_tokens = 512;
  const std::unique_ptr<Dataset> train = DatasetRegistry().make("clevr", request);
  request.split = Split::Validation;
  const std::unique_ptr<Dataset> validation = DatasetRegistry().make("clevr", request);
  const std::regex form(R"((train|val)\.(\d+)\.ids)");
  for (const std::string& name : expected.names()) {
    std::smatch part;
    if (name.ends_with(".mask")) continue;  // compared together with the ids
    if (!std::regex_match(name, part, form)) {
      result.failures.push_back(name + ": not a name of this kind of case");
      continue;
    }
    const Batch batch = read_batch(part[1] == "train" ? *train : *validation, {0, std::stoll(part[2]), 1});
    const std::vector<std::int32_t> expected_ids = expected.tensor(name).to_vector<std::int32_t>();
    const std::string mask_name = name.substr(0, name.rfind('.')) + ".mask";
    if (batch.ids.to_vector<std::int64_t>() != std::vector<std::int64_t>(expected_ids.begin(), expected_ids.end())) result.failures.push_back(name + ": differs");
    if (batch.loss_mask.to_vector<float>() != expected.tensor(mask_name).to_vector<float>()) result.failures.push_back(mask_name + ": differs");
  }
}

}  // namespace

GoldenResult run_data_case(const std::filesystem::path& file) {
  GoldenResult result;
  const SafetensorsFile expected(file);
  const std::string name = file.stem().string(), data_set = name.substr(0, name.find('_'));
  const std::filesystem::path data = file.parent_path().parent_path() / "data" / data_set;
  if (data_set == "pg19") check_pg19(expected, data, result);
  else if (data_set == "clevr") check_clevr(expected, data, result);
  else result.failures.push_back("no data set " + data_set);
  result.line = concat_text(expected.names().size(), " tensors compared");
  if (!result.failures.empty() || expected.names().empty()) result.outcome = GoldenResult::Failed;
  return result;
}

}  // namespace mblm::testing
