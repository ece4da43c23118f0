#include "mblm/sequence_state_file.h"

#include <algorithm>
#include <utility>

#include "engine/io/safetensors.h"
#include "mblm/model_hash.h"

namespace mblm {
namespace {

constexpr const char* format_key = "mblm_sequence_state";
constexpr const char* format_version = "1";
constexpr const char* hash_key = "model";
constexpr const char* precision_key = "precision";

std::string precision_of(const Model& model) { return std::string(name_of(model.parameters().activation_dtype())); }

Tensor ids_tensor(const std::vector<std::int64_t>& ids) { return from_values<std::int64_t>(Shape{std::ssize(ids)}, ids); }

// What a sequence of `length` bytes has processed: the tokens of each stage, with the start token, and the bytes of the open token of
// stage 0.
struct Progress {
  std::vector<std::int64_t> tokens;
  std::int64_t open = 0;
};
Progress progress_of(const ModelConfig& config, std::int64_t length) {
  Progress progress;
  std::int64_t bytes = length;  // from the start of the stage's open sequence
  for (int n = 0; n < config.stages(); ++n) {
    const std::int64_t patch = config.patch_bytes(n), tokens = n == config.stages() - 1 ? bytes : bytes == 0 ? 0 : (bytes - 1) / patch;
    progress.tokens.push_back(1 + tokens);
    bytes -= tokens * patch;
    if (n == 0) progress.open = bytes;
  }
  return progress;
}

std::string list_name(std::size_t stage, std::size_t i) { return concat_text("stage.", stage, ".list.", i); }

// Calls visit(name, tensor) for each tensor of the state, which it may replace. Lists are the rows in use.
template <class Visit>
void visit_tensors(SequenceState& state, Visit visit) {
  for (std::size_t n = 0; n < state.stages.size(); ++n) {
    const std::string stage = concat_text("stage.", n);
    State& s = state.stages[n];
    if (n > 0) visit(stage + ".above", state.above[n]);
    for (std::size_t i = 0; i < s.tensors.size(); ++i) visit(concat_text(stage, ".tensor.", i), s.tensors[i]);
    for (std::size_t i = 0; i < s.lists.size(); ++i) {
      Tensor& list = s.lists[i].front();
      list = list.slice(0, s.lengths.front());
      visit(list_name(n, i), list);
    }
  }
}

}  // namespace

void save_sequence(const std::filesystem::path& path, const Model& model, const SavedSequence& sequence) {
  SequenceState state = sequence.state;  // shares the tensors, which are only read
  std::vector<NamedTensor> tensors{{"length", ids_tensor({state.length})},
                                   {"open", ids_tensor(state.open)},
                                   {"seen", ids_tensor(sequence.seen)},
                                   {"logits", from_values<float>(Shape{std::ssize(state.logits)}, state.logits)}};
  visit_tensors(state, [&](const std::string& name, const Tensor& x) { tensors.push_back({name, x}); });
  write_checked_safetensors(path, std::move(tensors), {{format_key, format_version}, {hash_key, model_hash(model)}, {precision_key, precision_of(model)}});
}

SavedSequence load_sequence(const std::filesystem::path& path, const Model& model) {
  const SafetensorsFile file(path);
  const auto metadata = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  require<FileError>(metadata(format_key) == format_version, path.string(), ": expected a state that --save-state wrote, version ", format_version,
                     ", found ", metadata(format_key).empty() ? "another kind of file" : "version " + metadata(format_key));
  file.check();
  require<FileError>(metadata(hash_key) == model_hash(model), path.string(), ": the state belongs to another model (config or parameters differ)");
  require<FileError>(metadata(precision_key) == precision_of(model), path.string(), ": the state was saved in ", metadata(precision_key),
                     ", the model is in ", precision_of(model));
  const auto ids = [&](const char* name) {
    const Tensor x = file.tensor(name);
    require<FileError>(x.rank() == 1 && x.dtype() == DType::Int64 && (x.numel() > 0 || name != std::string("length")), path.string(), ": ", name,
                       ": expected a list of int64, found ", x.dtype(), " of shape ", x.shape());
    return x.to_vector<std::int64_t>();
  };

  // A new sequence has the tensors, shapes and dtypes to expect.
  Generator generator(model);
  SavedSequence saved{generator.snapshot(generator.join()), ids("seen")};
  SequenceState& state = saved.state;
  state.open = ids("open");
  state.length = ids("length").at(0);
  const Tensor logits = file.tensor("logits");
  const Progress progress = progress_of(model.config(), std::max<std::int64_t>(state.length, 0));
  const ModelConfig& config = model.config();
  const bool is_id = std::all_of(state.open.begin(), state.open.end(), [&](std::int64_t id) { return id >= 0 && id < config.num_tokens; });
  require<FileError>(state.length >= 0 && !(config.fixed_context() && state.length > config.context()) && std::ssize(state.open) == progress.open && is_id &&
                         logits.dtype() == DType::Float32 && logits.shape() == Shape{config.num_tokens},
                     path.string(), ": the state is damaged");
  state.logits = logits.to_vector<float>();
  for (std::size_t n = 0; n < state.stages.size(); ++n) {
    State& stage = state.stages[n];
    stage.lengths = {progress.tokens[n]};
    for (std::size_t i = 0; i < stage.lists.size(); ++i) {
      Tensor& list = stage.lists[i].front();
      const Shape shape = list.shape().with(0, progress.tokens[n]);
      require<FileError>(file.shape(list_name(n, i)) == shape, path.string(), ": ", list_name(n, i), ": expected shape ", shape, ", found ",
                         file.shape(list_name(n, i)));
      list = empty(shape, list.dtype(), list.device());
    }
  }
  visit_tensors(state, [&](const std::string& name, Tensor& x) {
    const Tensor stored = file.tensor(name);
    require<FileError>(stored.shape() == x.shape() && stored.dtype() == x.dtype(), path.string(), ": ", name, ": expected ", x.dtype(), " of shape ", x.shape(),
                       ", found ", stored.dtype(), " of shape ", stored.shape());
    x = to_device(clone(stored), x.device());
  });
  return saved;
}

}  // namespace mblm
