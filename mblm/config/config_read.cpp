#include <cerrno>
#include <cstring>
#include <fstream>

#include "mblm/config/block_choice.h"
#include "mblm/config/config.h"
#include "mblm/config/config_check.h"
#include "mblm/config/config_fields.h"
#include "mblm/config/config_overrides.h"
#include "mblm/config/field_reader.h"

namespace mblm {
namespace {

constexpr std::size_t longest_file = std::size_t{16} << 20;  // a checkpoint given by mistake is not read to its end

std::string read_text(const std::filesystem::path& path) {
  require<FileError>(!std::filesystem::is_directory(path), path.string(), ": expected a configuration file, found a folder");
  std::ifstream file(path, std::ios::binary);
  require<FileError>(file.is_open(), path.string(), ": cannot be read: ", std::strerror(errno));
  std::string text(longest_file + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  require<ConfigError>(text.size() <= longest_file, path.string(), ": expected a configuration file, found more than ", longest_file, " bytes");
  return text;
}

YamlValue read_tree(const std::string& yaml, const std::string& origin) {
  YamlValue root = parse_yaml(yaml, origin);
  const bool is_map = root.kind == YamlValue::Kind::Map || root.kind == YamlValue::Kind::Null;
  require<ConfigError>(is_map, place_text(origin, root.line), ": expected a map, got ", shown(root));
  root.kind = YamlValue::Kind::Map;
  return root;
}

// One per stage: of the entries of a list, or of the one map that all stages share.
std::vector<FieldReader> block_readers(const FieldReader& params, std::size_t stages) {
  const YamlValue& block = *params.section().find("block");
  if (block.kind != YamlValue::Kind::List) return std::vector<FieldReader>(stages, params.inner("block"));
  if (block.items.size() != stages)
    params.fail("block", concat_text("expected ", stages, stages == 1 ? " entry" : " entries", ", one per stage, got ", block.items.size()));
  std::vector<FieldReader> readers;
  for (std::size_t n = 0; n < stages; ++n) readers.emplace_back(block.items[n], params.origin(), params.path_of(concat_text("block[", n, "]")));
  return readers;
}

std::shared_ptr<const BlockConfig> read_block(FieldReader& reader, const BlockRegistry& registry, bool encoder) {
  const std::shared_ptr<BlockConfig> config = registry.make(choose_block_type(reader, registry, encoder));
  reader.read([&](Fields& f) {
    f.elsewhere("block_type", false, "a block type");
    config->fields(f);
  });
  return config;
}

using Declare = std::function<void(Fields&)>;

// The fields of a model and its blocks; `declare_more` declares the section's other fields.
ModelConfig read_stages(FieldReader& params, const BlockRegistry& registry, const std::optional<MaskingConfig>& masking, const Declare& declare_more) {
  ModelConfig model;
  model.masking = masking;
  params.read([&](Fields& f) {
    declare_more(f);
    declare_fields(f, model);
  });
  check_lengths(model, params);
  std::vector<FieldReader> readers = block_readers(params, model.hidden_dims.size());
  std::vector<const Fields*> places;
  for (FieldReader& reader : readers) {
    const bool shared = !model.blocks.empty() && &reader.section() == &readers.front().section();
    model.blocks.push_back(shared ? model.blocks.front() : read_block(reader, registry, masking.has_value()));
    places.push_back(&reader);
  }
  check_model(model, params, places);
  return model;
}

// A masked language model has its own fields beside `mblm_config`, which holds a model's. `declare_more` declares the
// section's fields that are neither.
ModelConfig read_model(FieldReader& params, const BlockRegistry& registry, const Declare& declare_more) {
  const YamlValue* inner = params.section().find("mblm_config");
  if (inner == nullptr || inner->kind == YamlValue::Kind::Null) {
    return read_stages(params, registry, {}, [&](Fields& f) {
      declare_more(f);
      for (const char* name : {"mask_token_id", "mask_reduce_strat", "mblm_config"})
        f.refuse(name, "a masked language model has it, with the other fields of the model under mblm_config");
    });
  }
  MaskingConfig masking;
  params.read([&](Fields& f) {
    declare_more(f);
    declare_fields(f, masking);
    f.elsewhere("mblm_config", true, "a map");
  });
  FieldReader model = params.inner("mblm_config");
  ModelConfig config = read_stages(model, registry, masking, [](Fields&) {});
  check_masking(config, params);
  return config;
}

template <class Section>
Section read_section(FieldReader& reader) {
  Section section;
  reader.read([&](Fields& f) { declare_fields(f, section); });
  return section;
}

RunConfig read_run(const YamlValue& root, const std::string& origin, const BlockRegistry& registry) {
  FieldReader file(root, origin, "");
  file.read([](Fields& f) {
    for (const char* section : {"params", "train", "io"}) f.elsewhere(section, true, "a map");
    f.elsewhere("resume", false, "a map");
    f.elsewhere("summary", false, "a map");  // what a run tells of itself in its own config.yaml
  });
  FieldReader params = file.inner("params"), train = file.inner("train"), io = file.inner("io");
  RunConfig config;
  config.model = read_model(params, registry, [&](Fields& f) { f.required("input_seq_len", config.input_seq_len, positive); });
  config.train = read_section<TrainConfig>(train);
  config.io = read_section<IoConfig>(io);
  if (const YamlValue* resume = root.find("resume"); resume != nullptr && resume->kind != YamlValue::Kind::Null) {
    FieldReader reader = file.inner("resume");
    config.resume = read_section<ResumeConfig>(reader);
  }
  check_run(config, params, train, io);
  return config;
}

ModelConfig parse_model(const std::string& yaml, const std::string& origin, const BlockRegistry& registry, const Overrides& overrides) {
  constexpr std::string_view prefix = "params.";
  YamlValue root = read_tree(yaml, origin);
  const bool whole = root.find("params") != nullptr;
  for (const std::string& override : overrides) {
    const bool names_section = whole && root.find(override.substr(0, override.find('.'))) != nullptr;
    if (whole) apply_override(root, names_section ? override : std::string(prefix) + override);
    else apply_override(root, override.starts_with(prefix) ? override.substr(prefix.size()) : override);
  }
  FieldReader file(root, origin, "");
  FieldReader params = whole ? file.inner("params") : file;
  std::optional<std::int64_t> input_seq_len;
  return read_model(params, registry, [&](Fields& f) { f.optional("input_seq_len", input_seq_len, positive); });
}

}  // namespace

RunConfig parse_run_config(const std::string& yaml, const std::string& origin, const BlockRegistry& registry, const Overrides& overrides) {
  YamlValue root = read_tree(yaml, origin);
  for (const std::string& override : overrides) apply_override(root, override);
  return read_run(root, origin, registry);
}

RunConfig read_run_config(const std::filesystem::path& path, const BlockRegistry& registry, const Overrides& overrides) {
  return parse_run_config(read_text(path), path.string(), registry, overrides);
}

ModelConfig parse_model_config(const std::string& yaml, const std::string& origin, const BlockRegistry& registry) {
  return parse_model(yaml, origin, registry, {});
}

ModelConfig read_model_config(const std::filesystem::path& path, const BlockRegistry& registry, const Overrides& overrides) {
  return parse_model(read_text(path), path.string(), registry, overrides);
}

}  // namespace mblm
