#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "engine/io/folder.h"
#include "mblm/config/config.h"
#include "mblm/config/config_fields.h"
#include "mblm/config/config_overrides.h"
#include "mblm/config/field_reader.h"
#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

constexpr std::size_t longest_file = std::size_t{16} << 20;  // a limit, so that a checkpoint given by mistake is not read whole

std::string read_text(const std::filesystem::path& path) {
  require<FileError>(!is_folder(path), path.string(), ": expected a configuration file, found a folder");
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

std::function<void(Fields&)> declarations_of(BlockConfig& block) {
  return [&block](Fields& f) {
    f.external("block_type", false, "a block type");
    block.fields(f);
  };
}

// Reports why no type fits: the errors of the closest one.
void report_without_fit(FieldReader& block, const std::vector<Fit>& fits, const std::vector<std::string>& types, const BlockRegistry& registry) {
  const auto closest = std::min_element(fits.begin(), fits.end(), [](const Fit& a, const Fit& b) { return a.distance() < b.distance(); });
  if (closest == fits.end() || closest->unknown.size() == block.section().keys.size())
    return block.report("", "expected a block_type (" + joined(types, " or ") + "), or all required fields of one");
  const std::string where = " in a " + closest->type + ", the closest block type";
  const std::shared_ptr<BlockConfig> config = registry.make(closest->type);
  block.check_names(declarations_of(*config), where);
  for (const std::string& name : closest->missing)
    if (!block.is_misspelt(name)) block.report(name, "expected a value for a " + closest->type + ", the closest block type, the field is missing");
  block.read_values(declarations_of(*config), FieldReader::Missing::MayBeMissing);
}

// Returns the `block_type` if it is given. Else returns the one registered type (an encoder if `encoder` is true, else a causal block)
// whose required fields are all given and that has all given fields. Reports an error and returns nothing if no type fits, or several do.
std::optional<std::string> choose_block_type(FieldReader& block, const BlockRegistry& registry, bool encoder) {
  const std::vector<std::string> types = registry.types(encoder);
  if (const YamlValue* type = block.section().find("block_type"); type != nullptr && type->kind != YamlValue::Kind::Null) {
    if (type->kind == YamlValue::Kind::Scalar && registry.has(type->text)) return type->text;
    const std::string near = type->kind == YamlValue::Kind::Scalar ? suggestion(type->text, types) : "";
    block.report("block_type", "expected " + joined(types, " or ") + ", got " + shown(*type) + near);
    return {};
  }
  std::vector<Fit> fits;
  std::vector<std::string> chosen;
  for (const std::string& type : types) {
    if (!registry.chosen_by_fields(type)) continue;
    fits.push_back(fit_of(block.section(), type, registry));
    if (fits.back().fits()) chosen.push_back(type);
  }
  if (chosen.size() == 1) return chosen.front();
  if (chosen.empty()) report_without_fit(block, fits, types, registry);
  else block.report("", "expected a block_type: the fields fit " + joined(chosen, " and "));
  return {};
}

// The readers of a model's blocks: one for the map that all stages share, or one per entry of the list. `is_list` distinguishes the two.
struct BlockReaders {
  std::vector<FieldReader> readers;
  bool is_list = false;
  const FieldReader& of_stage(std::size_t n) const { return readers[is_list ? n : 0]; }
};

// Leaves out what is not a map, after reporting it.
BlockReaders block_readers(const FieldReader& params) {
  BlockReaders blocks;
  const YamlValue* block = params.section().find("block");
  if (block == nullptr) return blocks;  // reported as missing
  blocks.is_list = block->kind == YamlValue::Kind::List;
  Problems& problems = params.problems();
  if (!blocks.is_list) {
    problems.attempt([&] { blocks.readers.push_back(params.inner("block")); });
    return blocks;
  }
  for (std::size_t n = 0; n < block->items.size(); ++n)
    problems.attempt([&] { blocks.readers.emplace_back(block->items[n], params.origin(), params.path_of(concat_text("block[", n, "]")), problems); });
  return blocks;
}

// Returns null after reporting an error.
std::shared_ptr<const BlockConfig> read_block(FieldReader& reader, const BlockRegistry& registry, bool encoder) {
  const std::size_t before = reader.problems().count();
  const std::optional<std::string> type = choose_block_type(reader, registry, encoder);
  if (!type) return nullptr;
  const std::shared_ptr<BlockConfig> config = registry.make(*type);
  reader.read(declarations_of(*config));
  return reader.problems().count() == before ? config : nullptr;
}

using Declare = std::function<void(Fields&)>;

// Reads the fields of a model and its blocks. `declare_more` declares the other fields of the section. The model is complete if no
// problem is added.
ModelConfig read_stages(FieldReader& params, const BlockRegistry& registry, const std::optional<MaskingConfig>& masking, const Declare& declare_more) {
  const std::size_t before = params.problems().count();
  ModelConfig model;
  model.masking = masking;
  params.read([&](Fields& f) {
    declare_more(f);
    declare_fields(f, model);
  });
  if (params.problems().count() == before) check_lengths(model, params);
  const bool knows_stages = params.problems().count() == before;
  BlockReaders blocks = block_readers(params);
  const std::size_t stages = model.hidden_dims.size();
  if (const YamlValue* list = params.section().find("block"); knows_stages && blocks.is_list && list->items.size() != stages)
    params.report("block", concat_text("expected ", stages, stages == 1 ? " entry" : " entries", ", one per stage, got ", list->items.size()));
  std::vector<std::shared_ptr<const BlockConfig>> read;
  for (FieldReader& reader : blocks.readers) read.push_back(read_block(reader, registry, masking.has_value()));
  if (params.problems().count() > before) return model;
  std::vector<const Fields*> places;
  for (std::size_t n = 0; n < stages; ++n) {
    model.blocks.push_back(read[blocks.is_list ? n : 0]);
    places.push_back(&blocks.of_stage(n));
  }
  check_model(model, params, places, params.problems());
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
  const std::size_t before = params.problems().count();
  MaskingConfig masking;
  params.read([&](Fields& f) {
    declare_more(f);
    declare_fields(f, masking);
    f.external("mblm_config", true, "a map");
  });
  ModelConfig config;
  params.problems().attempt([&] {
    FieldReader model = params.inner("mblm_config");
    config = read_stages(model, registry, masking, [](Fields&) {});
  });
  if (params.problems().count() == before) check_masking(config, params);
  return config;
}

// Reads a section. A missing one has no fields.
template <class Section>
void read_section(FieldReader& file, const char* name, Section& section, const std::function<void(const Fields&)>& check) {
  const YamlValue* given = file.section().find(name);
  if (given == nullptr && file.is_misspelt(name)) return;
  YamlValue empty;
  empty.kind = YamlValue::Kind::Map;
  empty.line = file.section().line;
  file.problems().attempt([&] {
    FieldReader reader(given == nullptr || given->kind == YamlValue::Kind::Null ? empty : *given, file.origin(), name, file.problems());
    const std::size_t before = file.problems().count();
    reader.read([&](Fields& f) { declare_fields(f, section); });
    if (file.problems().count() == before) check(reader);
  });
}

// Adds the default model to a config without one.
void complete(YamlValue& root) {
  const YamlValue* params = root.find("params");
  if (params != nullptr && params->kind != YamlValue::Kind::Null) return;
  YamlValue model = parse_yaml(std::string(model_yaml(ModelSize::Small)), "default model", false);
  if (params == nullptr) root.add("params", std::move(model));
  else *root.find("params") = std::move(model);
}

RunConfig read_run(const YamlValue& root, const std::string& origin, const BlockRegistry& registry, Problems& problems) {
  FieldReader file(root, origin, "", problems);
  file.read([](Fields& f) {
    for (const char* section : {"params", "train", "io"}) f.external(section, false, "a map");
    f.external("resume", false, "a map");
    f.external("summary", false, "a map");  // written by a run into its config.yaml
  });
  RunConfig config;
  config.io.name_model = std::filesystem::path(origin).stem().string();
  problems.attempt([&] {
    FieldReader params = file.inner("params");
    config.model = read_model(params, registry, [&](Fields& f) { f.required("input_seq_len", config.input_seq_len, positive); });
  });
  const bool has_model = problems.count() == 0;
  read_section(file, "train", config.train, [&](const Fields& train) {
    check_train(config.train, train);
    if (has_model) check_with_model(config, file.inner("params"), train);
  });
  read_section(file, "io", config.io, [&](const Fields& io) { check_io(config.io, io); });
  if (const YamlValue* resume = root.find("resume"); resume != nullptr && resume->kind != YamlValue::Kind::Null)
    read_section(file, "resume", config.resume.emplace(), [](const Fields&) {});
  problems.throw_if_any();
  return config;
}

ModelConfig parse_model(const std::string& yaml, const std::string& origin, const BlockRegistry& registry, const Overrides& overrides) {
  constexpr std::string_view prefix = "params.";
  YamlValue root = read_tree(yaml, origin);
  const bool whole = root.find("params") != nullptr || root.find("train") != nullptr || root.find("io") != nullptr;
  if (whole) complete(root);
  for (const std::string& override : overrides) {
    const bool names_section = whole && root.find(override.substr(0, override.find('.'))) != nullptr;
    if (whole) apply_override(root, names_section ? override : std::string(prefix) + override);
    else apply_override(root, override.starts_with(prefix) ? override.substr(prefix.size()) : override);
  }
  Problems problems;
  FieldReader file(root, origin, "", problems);
  FieldReader params = whole ? file.inner("params") : file;
  std::optional<std::int64_t> input_seq_len;
  const ModelConfig model = read_model(params, registry, [&](Fields& f) { f.optional("input_seq_len", input_seq_len, positive); });
  problems.throw_if_any();
  return model;
}

}  // namespace

RunConfig parse_run_config(const std::string& yaml, const std::string& origin, const BlockRegistry& registry, const Overrides& overrides) {
  YamlValue root = read_tree(yaml, origin);
  complete(root);
  Problems problems;
  for (const std::string& override : overrides) problems.attempt([&] { apply_override(root, override); });
  return read_run(root, origin, registry, problems);
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
