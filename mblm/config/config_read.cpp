#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "mblm/config/config.h"
#include "mblm/config/config_fields.h"
#include "mblm/config/config_overrides.h"
#include "mblm/config/field_reader.h"
#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

constexpr std::size_t longest_file = std::size_t{16} << 20;  // a limit, so that a checkpoint given by mistake is not read whole

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
  require<ConfigError>(is_map, location_text(origin, root.line), ": expected a map, got ", shown(root));
  root.kind = YamlValue::Kind::Map;
  return root;
}

// Compares a block type's fields with the keys of a map.
struct Fit {
  std::string type;
  std::vector<std::string> known, unknown, missing;
  bool fits() const { return unknown.empty() && missing.empty(); }
  std::size_t distance() const { return unknown.size() + missing.size(); }
};

Fit fit_of(const YamlValue& block, const std::string& type, const BlockRegistry& registry) {
  FieldNames names;
  registry.make(type)->fields(names);
  Fit fit{type, names.accepted(), {}, {}};
  for (const std::string& key : block.keys)
    if (key != "block_type" && names.find(key) == nullptr) fit.unknown.push_back(key);
  for (const FieldNames::Name& name : names.all())
    if (name.required && block.find(name.name) == nullptr) fit.missing.push_back(name.name);
  return fit;
}

[[noreturn]] void fail_without_fit(const FieldReader& block, const std::vector<Fit>& fits, const std::vector<std::string>& types) {
  const auto closest = std::min_element(fits.begin(), fits.end(), [](const Fit& a, const Fit& b) { return a.distance() < b.distance(); });
  if (closest == fits.end() || closest->unknown.size() == block.section().keys.size())
    block.fail("", "expected a block_type (" + joined(types, " or ") + "), or all required fields of one");
  if (closest->unknown.empty())
    block.fail(closest->missing.front(), "expected a value for a " + closest->type + ", the closest block type, the field is missing");
  std::vector<std::string> names = closest->known;
  names.push_back("block_type");
  const std::string& unknown = closest->unknown.front();
  block.fail(unknown, "no such field in a " + closest->type + ", the closest block type" + suggestion(unknown, names));
}

std::string named_type(const FieldReader& block, const YamlValue& type, const BlockRegistry& registry, const std::vector<std::string>& types) {
  if (type.kind == YamlValue::Kind::Scalar && registry.has(type.text)) return type.text;
  block.fail("block_type", "expected " + joined(types, " or ") + ", got " + shown(type));
}

// Returns the `block_type` if it is given. Else returns the one registered type (an encoder if `encoder` is true, else a causal block)
// whose required fields are all given and that has all given fields. Throws ConfigError if no type fits, or several do.
std::string choose_block_type(const FieldReader& block, const BlockRegistry& registry, bool encoder) {
  const std::vector<std::string> types = registry.types(encoder);
  if (const YamlValue* type = block.section().find("block_type"); type != nullptr && type->kind != YamlValue::Kind::Null)
    return named_type(block, *type, registry, types);
  std::vector<Fit> fits;
  std::vector<std::string> chosen;
  for (const std::string& type : types) {
    if (!registry.chosen_by_fields(type)) continue;
    fits.push_back(fit_of(block.section(), type, registry));
    if (fits.back().fits()) chosen.push_back(type);
  }
  if (chosen.empty()) fail_without_fit(block, fits, types);
  if (chosen.size() > 1) block.fail("", "expected a block_type: the fields fit " + joined(chosen, " and "));
  return chosen.front();
}

// Returns a reader per stage: for the entries of a list, or for the one map that all stages share.
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
    f.external("block_type", false, "a block type");
    config->fields(f);
  });
  return config;
}

using Declare = std::function<void(Fields&)>;

// Reads the fields of a model and its blocks. `declare_more` declares the other fields of the section.
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

// Reads a model, or a masked language model: its own fields, and those of the model under `mblm_config`. `declare_more` declares
// the other fields of the section.
ModelConfig read_model(FieldReader& params, const BlockRegistry& registry, const Declare& declare_more) {
  const YamlValue* inner = params.section().find("mblm_config");
  if (inner == nullptr || inner->kind == YamlValue::Kind::Null) {
    return read_stages(params, registry, {}, [&](Fields& f) {
      declare_more(f);
      for (const char* name : {"mask_token_id", "mask_reduce_strat", "mblm_config"})
        f.refuse(name, "only for masked language models, whose model fields are under mblm_config");
    });
  }
  MaskingConfig masking;
  params.read([&](Fields& f) {
    declare_more(f);
    declare_fields(f, masking);
    f.external("mblm_config", true, "a map");
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
    for (const char* section : {"params", "train", "io"}) f.external(section, true, "a map");
    f.external("resume", false, "a map");
    f.external("summary", false, "a map");  // written by a run into its config.yaml
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
