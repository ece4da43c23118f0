// Texts made from the declarations of the fields and field_docs().
#include <map>
#include <utility>

#include "engine/error.h"
#include "mblm/config/config_fields.h"
#include "mblm/config/field_docs.h"
#include "mblm/config/field_rules.h"
#include "mblm/config/field_writer.h"

namespace mblm {
namespace {

using Declare = std::function<void(Fields&)>;

// Collects what the declarations say of each field.
class FieldTypes final : public Fields {
 public:
  struct Type {
    std::string name, expectation;
    bool required;
  };
  const std::vector<Type>& all() const { return all_; }

 private:
  std::string location_of(const std::string& name) const override { return name; }
  void visit(const Field& field) override {
    if (field.refusal == nullptr) all_.push_back({field.name, expectation_of(field), field.required});
  }
  std::vector<Type> all_;
};

std::string one_line(const YamlValue& value) {
  std::string text = write_yaml(value);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

std::string cell(std::string text) {
  for (std::size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) text.insert(at, "\\");
  return text;
}

// `defaults`: defaults that the declarations do not know.
std::string table(const std::string& section, const Declare& declare, const std::map<std::string, std::string>& defaults = {}) {
  FieldTypes types;
  declare(types);
  const YamlValue values = written_fields(declare);
  std::string text = "| field | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n";
  for (const FieldTypes::Type& type : types.all()) {
    const FieldDoc& doc = doc_of_field(section, type.name);
    const YamlValue* value = values.find(type.name);
    std::string fallback = type.required || value == nullptr ? "required" : "`" + one_line(*value) + "`";
    if (const auto given = defaults.find(type.name); given != defaults.end()) fallback = given->second;
    text += concat_text("| `", type.name, "` | ", cell(type.expectation), " | ", fallback, " | ", cell(doc.meaning), " | `", cell(doc.example), "` |\n");
  }
  return text;
}

// Comments with the meaning of a field, above the field.
void add_comment(std::string& out, const std::string& meaning, std::size_t indent) {
  constexpr std::size_t width = 78;
  for (const std::string& line : wrapped(meaning, width - indent)) out += std::string(indent, ' ') + "# " + line + "\n";
}

void add_field(std::string& out, const std::string& name, const YamlValue& value, std::size_t indent) {
  YamlValue map;
  map.add(name, value);
  out += std::string(indent, ' ') + write_yaml(map);
}

// The blocks, with the meaning of each field where it first appears.
void add_blocks(std::string& out, const YamlValue& blocks) {
  add_comment(out, doc_of_field("params", "block").meaning, 2);
  out += "  block:\n";
  std::map<std::string, bool> explained;
  for (const YamlValue& block : blocks.items) {
    std::string text;
    for (std::size_t i = 0; i < block.keys.size(); ++i) {
      if (!std::exchange(explained[block.keys[i]], true)) add_comment(text, doc_of_field("block", block.keys[i]).meaning, 6);
      add_field(text, block.keys[i], block.items[i], 6);
    }
    const std::size_t first = text.find("      " + block.keys.front() + ":");
    text.replace(first, 6, "    - ");
    if (first > 0) {  // the comment of the first field goes above the dash
      std::string comment = text.substr(0, first);
      for (std::size_t at = comment.find("      #"); at != std::string::npos; at = comment.find("      #", at)) comment.erase(at, 2);
      text = comment + text.substr(first);
    }
    out += text;
  }
}

}  // namespace

std::string field_reference() {
  RunConfig run;
  MaskingConfig masking;
  ResumeConfig resume;
  const BlockRegistry registry;
  std::string text =
      "# Fields of a config\n\n"
      "A config is a YAML file. `mblm config` prints a complete one to start from. The shortest names its data and a length:\n\n"
      "```\n"
      "io: {dataset_id: files, dataset_dir: my_text}\n"
      "train: {epochs: 2}\n"
      "```\n\n"
      "Every field can also be set on the command line: `mblm train config.yaml train.batch_size=8 params.block[0].d_state=64`. An integer may\n"
      "have `_` between its digits. All wrong and missing fields are reported at once, before anything is written.\n\n"
      "`mblm config --fields` prints this page.\n\n"
      "## io\n\n";
  text += table("io", [&](Fields& f) { declare_fields(f, run.io); }, {{"name_model", "stem of the file"}});
  text += "\n## train\n\n";
  text += table("train", [&](Fields& f) { declare_fields(f, run.train); });
  text +=
      "\n## params\n\n"
      "Without this section the model is that of `mblm config --size small`. A section that is given must have all its required fields.\n\n";
  text += table("params", [&](Fields& f) {
    f.required("input_seq_len", run.input_seq_len, positive);
    declare_fields(f, run.model);
  });
  text +=
      "\nA masked language model has these fields instead, beside `input_seq_len`, and the fields above under `mblm_config`:\n\n";
  text += table("params", [&](Fields& f) {
    declare_fields(f, masking);
    f.external("mblm_config", true, "a map");
  });
  text += "\n## params.block\n";
  for (const auto& [title, type] : std::vector<std::pair<std::string, std::string>>{
           {"transformer and transformerEncoder", "transformer"}, {"mamba2 and mamba1", "mamba2"}}) {
    const std::shared_ptr<BlockConfig> block = registry.make(type);
    text += "\n`block_type` " + title + ":\n\n";
    text += table("block", [&](Fields& f) {
      f.external("block_type", false, "a block type");
      block->fields(f);
    }, {{"block_type", "by the fields"}});
  }
  text +=
      "\n## resume\n\n"
      "Starts from the weights of a checkpoint instead of random ones. A run without this section starts from random weights.\n\n";
  text += table("resume", [&](Fields& f) { declare_fields(f, resume); });
  return text;
}

std::string commented_yaml(const RunConfig& config, const std::vector<std::string>& head) {
  const YamlValue run = yaml_of(config);
  std::string out;
  for (const std::string& line : head) out += "# " + line + "\n";
  for (const char* section : {"io", "train", "params"}) {
    const YamlValue& fields = *run.find(section);
    out += concat_text(section, ":\n");
    for (std::size_t i = 0; i < fields.keys.size(); ++i) {
      if (fields.keys[i] == "block") {
        add_blocks(out, fields.items[i]);
        continue;
      }
      add_comment(out, doc_of_field(section, fields.keys[i]).meaning, 2);
      add_field(out, fields.keys[i], fields.items[i], 2);
    }
  }
  return out;
}

}  // namespace mblm
