#include <type_traits>

#include "mblm/config/config.h"
#include "mblm/config/config_fields.h"
#include "mblm/config/field_writer.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

template <class T>
YamlValue yaml_of_field(const T& value) {
  return yaml_of(value);
}

YamlValue yaml_of_field(const PositionKind& kind) {
  return kind == PositionKind::None ? YamlValue{} : yaml_of(std::string(kind == PositionKind::Fixed ? "fixed" : "rope"));
}

YamlValue yaml_of_field(const YamlText& text) { return text == nullptr ? YamlValue{} : parse_yaml(*text, "YAML text of a field", false); }

template <class T>
YamlValue yaml_of_field(const std::vector<T>& list) {
  YamlValue value;
  value.kind = YamlValue::Kind::List;
  for (const T& entry : list) value.items.push_back(yaml_of_field(entry));
  return value;
}

template <class T>
YamlValue yaml_of_field(const std::optional<T>& value) {
  return value ? yaml_of_field(*value) : YamlValue{};
}

// Writes fields and their values to a YAML map.
class FieldWriter final : public Fields {
 public:
  YamlValue take() { return std::move(section_); }

 private:
  std::string location_of(const std::string& name) const override { return name; }
  void visit(const Field& field) override {
    std::visit(
        [&](auto value) {
          if constexpr (std::is_pointer_v<decltype(value)>) section_.add(field.name, yaml_of_field(*value));
        },
        field.value);
  }
  YamlValue section_;
};

template <class Section>
YamlValue written(Section section) {
  return written_fields([&section](Fields& f) { declare_fields(f, section); });
}

}  // namespace

YamlValue written_fields(const std::function<void(Fields&)>& declare) {
  FieldWriter writer;
  declare(writer);
  return writer.take();
}

YamlValue yaml_of(const ModelConfig& config) {
  YamlValue blocks;
  blocks.kind = YamlValue::Kind::List;
  for (const auto& block : config.blocks) blocks.items.push_back(written_fields([&block](Fields& f) { visit_fields(*block, f); }));
  YamlValue model = written(config);
  model.add("block", std::move(blocks));
  if (!config.masking) return model;
  YamlValue masked = written(*config.masking);
  masked.add("mblm_config", std::move(model));
  return masked;
}

YamlValue yaml_of(const RunConfig& config) {
  YamlValue params, run;
  params.add("input_seq_len", yaml_of(config.input_seq_len));
  YamlValue model = yaml_of(config.model);
  for (std::size_t i = 0; i < model.items.size(); ++i) params.add(model.keys[i], std::move(model.items[i]));
  run.add("params", std::move(params));
  run.add("train", written(config.train));
  run.add("io", written(config.io));
  if (config.resume) run.add("resume", written(*config.resume));
  return run;
}

std::string to_yaml(const ModelConfig& config) { return write_yaml(yaml_of(config)); }

std::string to_yaml(const RunConfig& config) { return write_yaml(yaml_of(config)); }

}  // namespace mblm
