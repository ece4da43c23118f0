#include "mblm/config/field_writer.h"

#include <type_traits>

namespace mblm {
namespace {

template <class T>
YamlValue written(const T& value) {
  return yaml_of(value);
}

YamlValue written(const PositionKind& kind) {
  return kind == PositionKind::None ? YamlValue{} : yaml_of(std::string(kind == PositionKind::Fixed ? "fixed" : "rope"));
}

YamlValue written(const YamlText& text) { return text == nullptr ? YamlValue{} : parse_yaml(*text, "YAML text of a field", false); }

template <class T>
YamlValue written(const std::vector<T>& list) {
  YamlValue value;
  value.kind = YamlValue::Kind::List;
  for (const T& entry : list) value.items.push_back(written(entry));
  return value;
}

template <class T>
YamlValue written(const std::optional<T>& value) {
  return value ? written(*value) : YamlValue{};
}

}  // namespace

void FieldWriter::visit(const Field& field) {
  std::visit(
      [&](auto value) {
        if constexpr (std::is_pointer_v<decltype(value)>) section_.add(field.name, written(*value));
      },
      field.value);
}

}  // namespace mblm
