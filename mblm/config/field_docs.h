// What each config field means, for docs/config.md, `mblm config` and `mblm config --fields`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mblm/config/config.h"

namespace mblm {

struct FieldDoc {
  std::string section;   // params, block, train, io, resume
  std::string name;
  std::string meaning;   // plain sentences without a line feed
  std::string example;   // a YAML value
};

// All fields, in the order of their declarations.
const std::vector<FieldDoc>& field_docs();
// Throws Error for a field without an entry.
const FieldDoc& doc_of_field(const std::string& section, const std::string& name);

// The page docs/config.md: a table per section with each field's type, default, meaning and example. Types and defaults come from
// the declarations of the fields.
std::string field_reference();

// The YAML of a config with every field and its meaning as a comment, for a person to edit. `head` is a comment of whole lines
// at the top.
std::string commented_yaml(const RunConfig& config, const std::vector<std::string>& head);

// Breaks text at spaces into lines of at most `width` characters; a longer word has a line of its own.
std::vector<std::string> wrapped(std::string_view text, std::size_t width);

}  // namespace mblm
