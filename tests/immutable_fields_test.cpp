// Each field that determines what a run computes is refused when it differs on resume.
#include "train/immutable_fields.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "mblm/config/yaml.h"
#include "tests/run_outcome.h"
#include "tests/tiny_run.h"
#include "train/run_state.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

// The scalars of a tree with their paths, `train.betas[0]`.
void collect(YamlValue& value, const std::string& path, std::vector<std::pair<std::string, YamlValue*>>& fields) {
  if (value.kind == YamlValue::Kind::Scalar || value.kind == YamlValue::Kind::Null) fields.emplace_back(path, &value);
  for (std::size_t i = 0; i < value.items.size(); ++i)
    collect(value.items[i], value.kind == YamlValue::Kind::Map ? (path.empty() ? "" : path + ".") + value.keys[i] : concat_text(path, "[", i, "]"), fields);
}

YamlValue another(const YamlValue& value) {
  if (value.kind == YamlValue::Kind::Null) return yaml_of(std::int64_t{1});
  if (const auto flag = to_bool(value)) return yaml_of(!*flag);
  if (const auto number = to_number(value)) return yaml_of(*number + 1);
  return yaml_of(value.text + "x");
}

}  // namespace

TEST_CASE("every field of the table is refused on resume if it differs from the state") {
  const TemporaryFolder folder;
  const std::string file = prepare_tiny_run(folder);
  const RunConfig config = read_run_config(file, BlockRegistry(), {"train.target_elements=8", "io.validate_amount=1"});
  const std::filesystem::path run = Trainer(config, DatasetRegistry()).run().folder, state_file = state_files(run).back();
  const std::string bytes = read_file(state_file);
  const auto resume = [&] { Trainer(read_config_of_run(run, BlockRegistry()), DatasetRegistry(), {.resume_folder = run}); };
  CHECK(message_of<Error>(resume) == "(nothing was thrown)");
  const std::string table = read_file(run / "loss.csv");  // without the row of the final test

  const std::string fields_of_run = read_run_state(state_file).state.config;
  YamlValue all = parse_yaml(fields_of_run, "state");
  std::vector<std::pair<std::string, YamlValue*>> fields;
  collect(all, "", fields);
  std::set<std::string> names;
  for (const auto& [path, value] : fields) {
    CAPTURE(path);
    names.insert(path);
    const YamlValue before = *value;
    *value = another(before);
    {
      SavedState saved = read_run_state(state_file);
      saved.state.config = write_yaml(all);
      std::vector<NamedTensor> tensors;
      for (const std::string& name : saved.tensors.names()) tensors.push_back({name, saved.tensors.tensor(name)});
      write_run_state(state_file, saved.state, tensors);
    }
    const std::string message = message_of<ConfigError>(resume);
    CHECK(message.find(": cannot change fields of a run: " + path + " (" + (value->kind == YamlValue::Kind::Null ? "null" : value->text) + ", now ") !=
          std::string::npos);
    *value = before;
    write_file(state_file, bytes);
    CHECK(read_file(run / "loss.csv") == table);
  }
  CHECK(message_of<Error>(resume) == "(nothing was thrown)");
  for (const char* name : {"params.hidden_dims[0]", "params.num_layers[1]", "params.block[0].d_state", "params.block[1].ff_dropout", "train.seed",
                           "train.batch_size", "train.learning_rate", "io.dataset_id", "io.num_models_to_save", "io.validate_amount", "num_workers"}) {
    CAPTURE(name);
    CHECK(names.count(name) == 1);
  }
}

TEST_CASE("a field of train is immutable unless it only sets the length of the run or how it is run") {
  const std::set<std::string> free{"target_elements", "max_steps", "epochs", "device", "save_state_every", "on_nonfinite", "cuda_graphs"};
  const RunConfig config;
  const YamlValue all = parse_yaml(to_yaml(config), "config"), kept = parse_yaml(immutable_fields(config, 1), "fields");
  REQUIRE(all.find("train")->keys.size() >= 15);
  for (const std::string& name : all.find("train")->keys) {
    CAPTURE(name);
    CHECK((kept.find("train")->find(name) == nullptr) == (free.count(name) == 1));
  }
}

}  // namespace mblm::testing
