// mblm config: prints a complete config, fitted to this machine and to the data.
#include <algorithm>
#include <bit>
#include <iomanip>

#include "engine/device_name.h"
#include "engine/error.h"
#include "mblm/config/field_docs.h"
#include "mblm/info.h"
#include "mblm/model.h"
#include "program/program.h"
#include "program/progress_line.h"
#include "train/data/text_datasets.h"

namespace mblm {
namespace {

// What is trained at best: a model, sequences per optimizer step, and bytes in the whole run.
struct Plan {
  const char* name;
  ModelSize size;
  std::int64_t sequences;
  double bytes;
  double learning_rate;
};
constexpr Plan plans[] = {
    {"small", ModelSize::Small, 4, 6e6, 0.003},
    {"medium", ModelSize::Medium, 16, 1e9, 0.001},
    {"large", ModelSize::Large, 48, 3e10, 0.001},
};

constexpr double share_of_memory = 0.6;  // of the free memory that a config plans with: the estimate leaves out temporary tensors
constexpr std::int64_t shortest = 64;    // bytes of a sequence; fewer are not worth a model

// The bytes of the splits of a data set, in the order of Split.
struct DataSize {
  std::int64_t train = 0, smallest = 0;
};

DataSize size_of(const std::string& path) {
  DataSize size;
  size.smallest = std::numeric_limits<std::int64_t>::max();
  for (const Split split : {Split::Train, Split::Validation, Split::Test}) {
    const std::optional<SplitBytes> part = bytes_of_split(path, split);
    if (!part) continue;
    if (split == Split::Train) size.train = part->size();
    size.smallest = std::min(size.smallest, part->size());
  }
  require<FileError>(size.smallest >= shortest, path, ": expected at least ", shortest, " bytes in each split, found ", size.smallest);
  return size;
}

// Without --size: small on a CPU, otherwise by the amount of data.
const Plan& choose_plan(const ConfigCommand& command, const std::optional<DataSize>& data, Device device) {
  if (command.size) return *std::find_if(std::begin(plans), std::end(plans), [&](const Plan& plan) { return plan.name == *command.size; });
  const double bytes = data ? static_cast<double>(data->train) : 0;
  return plans[device.kind == DeviceKind::Cpu || bytes < 1e8 ? 0 : bytes < 3e9 ? 1 : 2];
}

double memory_of(const ModelConfig& model, std::int64_t batch, std::int64_t length) {
  const Model described(model);  // allocates no memory for its parameters
  const ModelSummary summary = summarize_model(model, described.parameters(), length);
  return summary.optimizer_bytes() + summary.activation_bytes(batch);
}

// Halves the micro-batch until it fits the memory; more micro-batches per step make up for it.
void fit_memory(RunConfig& config, const Plan& plan, double free_bytes) {
  std::int64_t batch = plan.sequences;
  while (batch > 1 && memory_of(config.model, batch, config.input_seq_len) > share_of_memory * free_bytes) batch /= 2;
  const double needed = memory_of(config.model, batch, config.input_seq_len);
  require<ValueError>(needed <= share_of_memory * free_bytes, "config: the ", plan.name, " model needs about ", format_bytes(needed), ", expected at most ",
                      share_of_memory * 100, " % of the ", format_bytes(free_bytes), " that are free; choose a smaller --size");
  config.train.batch_size = batch;
  config.train.gradient_accumulate_every = (plan.sequences + batch - 1) / batch;
}

// Sequences no longer than the smallest split, and so many epochs that the run sees the bytes of the plan, if that is not too often.
void fit_data(RunConfig& config, const Plan& plan, const DataSize& data) {
  constexpr double most_epochs = 20;
  if (data.smallest < config.input_seq_len)
    config.input_seq_len = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(data.smallest)));
  const double epochs = plan.bytes / static_cast<double>(std::max<std::int64_t>(1, data.train));
  config.train.epochs = static_cast<std::int64_t>(std::clamp(epochs + 0.5, 1.0, most_epochs));
}

// A step must not need more sequences than an epoch has.
void fit_epoch(RunConfig& config, const DataSize& data) {
  const std::int64_t sequences = std::max<std::int64_t>(1, data.train / config.input_seq_len);
  config.train.batch_size = std::min(config.train.batch_size, sequences);
  config.train.gradient_accumulate_every = std::clamp<std::int64_t>(sequences / config.train.batch_size, 1, config.train.gradient_accumulate_every);
}

RunConfig make_config(const ConfigCommand& command, const Plan& plan, const std::optional<DataSize>& data, double free_bytes) {
  std::string text = "params:\n";
  for (std::string_view rest = model_yaml(plan.size); !rest.empty();) {
    const std::size_t end = rest.find('\n') + 1;
    text += concat_text("  ", rest.substr(0, end));
    rest.remove_prefix(end);
  }
  text += "io: {dataset_id: files, dataset_dir: data}\ntrain: {target_elements_strategy: sequence, target_elements: 1, gradient_clipping: 1, shuffle_train: true, warmup_steps_perc: 0.05}\n";
  RunConfig config = parse_run_config(text, "mblm.yaml", BlockRegistry());
  config.train.learning_rate = plan.learning_rate;
  config.train.target_elements.reset();
  if (data) fit_data(config, plan, *data);
  else config.train.target_elements = static_cast<std::int64_t>(plan.bytes);
  fit_memory(config, plan, free_bytes);
  if (data) fit_epoch(config, *data);
  config.io.dataset_dir = command.data.value_or("data");
  config.io.name_model = plan.name;
  return parse_run_config(to_yaml(config), "command line", BlockRegistry(), command.overrides);
}

std::vector<std::string> head_of(const RunConfig& config, const Plan& plan, const std::optional<DataSize>& data, Device device, double free_bytes) {
  const std::int64_t batch = config.train.batch_size;
  const double parameters = parameter_count(config.model) / 1e6;
  std::vector<std::string> head{
      concat_text("A ", plan.name, " model of ", std::fixed, std::setprecision(1), parameters, " million parameters."),
      concat_text("Training needs about ", format_bytes(memory_of(config.model, batch, config.input_seq_len)), " of the ", format_bytes(free_bytes), " that were free on ", device, '.'),
  };
  if (data) head.push_back(concat_text("The training data have ", data->train, " bytes."));
  else head.push_back("Set io.dataset_dir to your data, or let `mblm config --data DIR` fit the config to them.");
  head.push_back("Train: mblm train THIS_FILE");
  return head;
}

}  // namespace

int run(const ConfigCommand& command) {
  if (command.fields) {
    write_output(field_reference());
    return 0;
  }
  const Device device = open_device("auto", [](const std::string&) {});
  const double free_bytes = static_cast<double>(runtime_of(device.kind).memory(device.index).free_bytes);
  std::optional<DataSize> data;
  if (command.data) data = size_of(*command.data);
  const Plan& plan = choose_plan(command, data, device);
  const RunConfig config = make_config(command, plan, data, free_bytes);
  write_output(commented_yaml(config, head_of(config, plan, data, device, free_bytes)));
  return 0;
}

}  // namespace mblm
