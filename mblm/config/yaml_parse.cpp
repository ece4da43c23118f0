#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

constexpr std::size_t most_values = 100'000;  // nested aliases expand a few lines to billions of values

[[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) { throw YAML::ParserException(mark, message); }

// Replaces control characters: the parser's messages may quote the text.
std::string one_line(std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return message;
}

std::size_t count_values(const YamlValue& value) {
  std::size_t count = 1;
  for (const YamlValue& item : value.items) count += count_values(item);
  return count;
}

// Builds the tree from the parser's events: the parser's own document model loses duplicate keys.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(bool has_lines) : has_lines_(has_lines) {}
  YamlValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { put(mark, anchor, {}); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& text) override {
    YamlValue value;
    value.kind = YamlValue::Kind::Scalar;
    value.text = text;
    value.plain = tag == "?";
    put(mark, anchor, std::move(value));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlValue::Kind::List);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlValue::Kind::Map);
  }
  void OnMapEnd() override { close(); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias refers to the value that contains it");
    put(mark, 0, found->second);
  }

 private:
  struct Open {
    YamlValue value;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    bool has_key = false;    // in a map: the last key has no value yet
    bool is_merge = false;   // that key is the merge key
    YAML::Mark key_mark = {};
    std::vector<YamlValue> merged = {};  // maps of the merge keys; a later one wins
  };

  int line_of(const YAML::Mark& mark) const { return has_lines_ ? mark.line + 1 : 0; }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlValue::Kind kind) {
    if (!open_.empty() && open_.back().value.kind == YamlValue::Kind::Map && !open_.back().has_key) fail(mark, "a key must be a scalar");
    YamlValue value;
    value.kind = kind;
    open_.push_back({std::move(value), mark, anchor, false, {}});
  }

  void close() {
    Open closed = std::move(open_.back());
    open_.pop_back();
    for (auto map = closed.merged.rbegin(); map != closed.merged.rend(); ++map) add_missing(closed.value, *map);
    put(closed.mark, closed.anchor, std::move(closed.value));
  }

  // Adds a finished value to the innermost open container, as a key or as an item.
  void put(const YAML::Mark& mark, YAML::anchor_t anchor, YamlValue value) {
    value.line = line_of(mark);
    values_ += count_values(value);
    if (values_ > most_values) fail(mark, concat_text("more than ", most_values, " values"));
    if (anchor != 0) anchors_[anchor] = value;
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& parent = open_.back();
    if (parent.value.kind == YamlValue::Kind::Map && !parent.has_key) {
      put_key(parent, mark, value);
      return;
    }
    if (std::exchange(parent.is_merge, false)) {
      parent.has_key = false;
      merge(parent, mark, std::move(value));
      return;
    }
    if (parent.has_key) value.line = line_of(parent.key_mark);
    parent.has_key = false;
    parent.value.items.push_back(std::move(value));
  }

  // The value of a merge key is a map, or a list of maps of which an earlier one wins. Several merge keys in a map are accepted as in
  // PyYAML, where a later one wins.
  static void merge(Open& parent, const YAML::Mark& mark, YamlValue value) {
    constexpr const char* expectation = "the merge key << takes a map or a list of maps";
    if (value.kind == YamlValue::Kind::Map) return parent.merged.push_back(std::move(value));
    if (value.kind != YamlValue::Kind::List) fail(mark, expectation);
    for (auto item = value.items.rbegin(); item != value.items.rend(); ++item) {
      if (item->kind != YamlValue::Kind::Map) fail(mark, expectation);
      parent.merged.push_back(std::move(*item));
    }
  }

  // Adds the keys of another map that `map` does not have. Their lines stay those of the other map.
  static void add_missing(YamlValue& map, const YamlValue& other) {
    for (std::size_t i = 0; i < other.keys.size(); ++i)
      if (map.find(other.keys[i]) == nullptr) map.add(other.keys[i], other.items[i]);
  }

  static void put_key(Open& parent, const YAML::Mark& mark, const YamlValue& key) {
    if (key.kind != YamlValue::Kind::Scalar) fail(mark, "a key must be a scalar");
    parent.is_merge = key.plain && key.text == "<<";  // of YAML 1.1, https://yaml.org/type/merge.html
    if (parent.is_merge) {
      parent.has_key = true;
      return;
    }
    if (parent.value.find(key.text) != nullptr) fail(mark, "duplicate key " + in_quotes(key.text));
    parent.value.keys.push_back(key.text);
    parent.has_key = true;
    parent.key_mark = mark;
  }

  bool has_lines_;
  YamlValue root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlValue> anchors_;
  std::size_t values_ = 0;
};

}  // namespace

YamlValue parse_yaml(const std::string& text, const std::string& origin, bool has_lines) {
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    TreeBuilder document(has_lines), rest(has_lines);
    parser.HandleNextDocument(document);
    require<ConfigError>(!parser.HandleNextDocument(rest), origin, ": expected one YAML document, got several");
    YamlValue root = document.take();
    if (has_lines && root.line == 0) root.line = 1;
    return root;
  } catch (const YAML::Exception& error) {
    const bool known = has_lines && !error.mark.is_null();
    throw ConfigError(concat_text(origin, known ? ":" + std::to_string(error.mark.line + 1) : std::string(), ": not YAML: ", one_line(error.msg)));
  }
}

}  // namespace mblm
