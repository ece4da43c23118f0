#include "engine/io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::string_view float16_name = "F16";
// The first name of a type is the one that is written.
constexpr std::pair<std::string_view, DType> dtype_names[] = {{"F32", DType::Float32},      {"F64", DType::Float64}, {"BF16", DType::BFloat16},
                                                              {float16_name, DType::Float32}, {"I32", DType::Int32},   {"I64", DType::Int64},
                                                              {"U8", DType::UInt8},         {"BOOL", DType::UInt8}};

// The fields of one tensor before the checks.
struct RawEntry {
  std::optional<std::string> dtype;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::size_t>> offsets;
};

// Handles the events of the JSON parser and rejects unexpected values at once, so that deep or large JSON is harmless.
// `place_` is the innermost open bracket.
class Reader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Reader(const std::string& path, std::size_t data_bytes) : path_(path), data_bytes_(data_bytes) {}

  SafetensorsHeader finish() {
    check_layout();
    return std::move(header_);
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::Outside:
        return enter(Place::Header);
      case Place::Header:
        if (name_ == safetensors_metadata_key) return enter(Place::Metadata);
        raw_ = {};
        return enter(Place::Tensor);
      default:
        unexpected("an object");
    }
  }
  bool end_object() override {
    if (place_ == Place::Tensor) add_tensor();
    return enter(place_ == Place::Header ? Place::Outside : Place::Header);
  }
  bool key(std::string& text) override {
    if (place_ == Place::Header) {
      require_new(header_.tensors.count(text) == 0 && !(text == safetensors_metadata_key && has_metadata_), text);
      has_metadata_ = has_metadata_ || text == safetensors_metadata_key;
      name_ = text;
    } else if (place_ == Place::Metadata) {
      require_new(header_.metadata.count(text) == 0, text);
      key_ = text;
    } else {
      check(text == "dtype" || text == "shape" || text == "data_offsets", "expected dtype, shape and data_offsets of tensor ", shown_text(name_),
            ", found ", shown_text(text));
      require_new(!(text == "dtype" ? raw_.dtype.has_value() : text == "shape" ? raw_.shape.has_value() : raw_.offsets.has_value()), text);
      key_ = text;
    }
    return true;
  }
  bool string(std::string& text) override {
    if (place_ == Place::Metadata) {
      header_.metadata.emplace(key_, text);
    } else if (place_ == Place::Tensor && key_ == "dtype") {
      raw_.dtype = text;
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool start_array(std::size_t) override {
    if (place_ != Place::Tensor || key_ == "dtype") unexpected("a list");
    if (key_ == "shape") {
      raw_.shape.emplace();
      return enter(Place::Shape);
    }
    raw_.offsets.emplace();
    return enter(Place::Offsets);
  }
  bool end_array() override { return enter(Place::Tensor); }
  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::Shape) {
      check(value <= INT64_MAX, "expected sizes below 2^63 of tensor ", shown_text(name_), ", found ", value);
      check(raw_.shape->size() < Shape::max_rank, "expected at most ", Shape::max_rank, " axes of tensor ", shown_text(name_), ", found more");
      raw_.shape->push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::Offsets) {
      check(raw_.offsets->size() < 2, "expected two data_offsets of tensor ", shown_text(name_), ", found more");
      raw_.offsets->push_back(value);
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool number_integer(std::int64_t value) override { unexpected(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { unexpected(text.substr(0, 40)); }
  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw FileError(concat_text(path_, ": expected a JSON header, found a syntax error at byte ", position, " of the header"));
  }

 private:
  enum class Place { Outside, Header, Metadata, Tensor, Shape, Offsets };
  struct Range {
    std::size_t begin, end;
    std::string name;
  };

  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    require<FileError>(ok, path_, ": ", parts...);
  }
  void require_new(bool is_new, const std::string& text) const { check(is_new, "expected unique keys, found duplicate key ", shown_text(text)); }

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    const auto wish = [&]() -> std::string {
      switch (place_) {
        case Place::Outside:
          return "an object as the header";
        case Place::Header:
          return "an object for " + shown_text(name_);
        case Place::Metadata:
          return "a string as metadata " + shown_text(key_);
        case Place::Tensor:
          return (key_ == "dtype" ? "a string as dtype of tensor " : "a list as " + key_ + " of tensor ") + shown_text(name_);
        case Place::Shape:
          return "sizes of 0 or more as shape of tensor " + shown_text(name_);
        case Place::Offsets:
          return "byte offsets as data_offsets of tensor " + shown_text(name_);
      }
      return {};
    };
    throw FileError(concat_text(path_, ": expected ", wish(), ", found ", found));
  }

  // Checks one tensor, independently of the other tensors.
  void add_tensor() {
    const std::string name = shown_text(name_);
    check(raw_.dtype && raw_.shape && raw_.offsets, "expected dtype, shape and data_offsets of tensor ", name, ", found missing fields");
    check(raw_.offsets->size() == 2, "expected two data_offsets of tensor ", name, ", found ", raw_.offsets->size());
    const auto dtype = std::find_if(std::begin(dtype_names), std::end(dtype_names), [&](const auto& known) { return known.first == *raw_.dtype; });
    check(dtype != std::end(dtype_names), "expected F32, F64, BF16, F16, I32, I64, U8 or BOOL elements of tensor ", name, ", found ", shown_text(*raw_.dtype));
    const Shape shape = checked_shape();
    const SafetensorsEntry entry{dtype->second, shape, (*raw_.offsets)[0], dtype->first == float16_name};
    std::size_t bytes = 0;
    check(!__builtin_mul_overflow(static_cast<std::size_t>(shape.numel()), entry.element_bytes(), &bytes), "expected sizes of tensor ", name,
          " that fit in memory, found ", shape);
    const std::size_t begin = (*raw_.offsets)[0], end = (*raw_.offsets)[1];
    check(begin <= end && end <= data_bytes_, "expected data_offsets of tensor ", name, " within ", data_bytes_, " bytes, found ", begin, " to ",
          end);
    check(end - begin == bytes, "expected ", bytes, " bytes for shape ", shape, " of tensor ", name, ", found ", end - begin);
    header_.tensors.emplace(name_, entry);
    ranges_.push_back({begin, end, name_});
  }

  Shape checked_shape() const {
    try {
      return Shape(std::span<const std::int64_t>(*raw_.shape));
    } catch (const ShapeError& error) {
      throw FileError(concat_text(path_, ": expected a valid shape of tensor ", shown_text(name_), ", found ", error.what()));
    }
  }

  // Checks that the tensors cover all bytes exactly once.
  void check_layout() {
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    std::size_t covered = 0;
    for (const Range& range : ranges_) {
      check(range.begin == covered, "expected tensor ", shown_text(range.name), " to begin at byte ", covered, ", the end of the previous tensor, found ",
            range.begin < covered ? "an overlap" : "a gap", ": it begins at byte ", range.begin);
      covered = range.end;
    }
    check(covered == data_bytes_, "expected ", covered, " bytes of elements after the header, found ", data_bytes_);
  }

  const std::string& path_;
  const std::size_t data_bytes_;
  Place place_ = Place::Outside;
  std::string name_, key_;  // of the tensor; of the field in its object or in the metadata
  bool has_metadata_ = false;
  RawEntry raw_;
  std::vector<Range> ranges_;
  SafetensorsHeader header_;
};

}  // namespace

std::string_view safetensors_dtype(DType dtype) {
  return std::find_if(std::begin(dtype_names), std::end(dtype_names), [&](const auto& known) { return known.second == dtype; })->first;
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, std::size_t data_bytes) {
  require<FileError>(text.starts_with('{'), path, ": expected a header that begins with {, found ",
                     text.empty() ? "an empty header" : shown_text(text.substr(0, 8)));
  // The parser treats a zero byte as the end of its input.
  require<FileError>(text.find('\0') == text.npos, path, ": expected a JSON header, found a zero byte at byte ", text.find('\0') + 1, " of the header");
  Reader reader(path, data_bytes);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.finish();
}

}  // namespace mblm
