// The part of Python's pickle format, protocol 2 (https://peps.python.org/pep-0307/), in which torch.save describes what it
// saves. Reading makes a graph of values and runs nothing: a global is a name, and a call says what would be called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mblm {

struct PickleValue {
  enum class Kind {
    None,
    Bool,        // integer
    Integer,     // integer
    Real,        // real
    Text,        // text, in UTF-8 or whatever the file has
    Tuple,       // items
    List,        // items
    Dict,        // items: key, value, key, value, ...; an OrderedDict too
    Global,      // text: module, a space, name
    Call,        // items: the global and its arguments, a tuple
    Persistent,  // items: one, the id of something that lies outside of the pickle
  };
  Kind kind = Kind::None;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<const PickleValue*> items;  // may lead back to the value itself: follow them to a fixed depth only
};

struct PickleDocument {
  std::deque<PickleValue> values;  // pointers among them stay good when this moves
  const PickleValue* root = nullptr;
};

inline constexpr std::size_t pickle_limit = std::size_t{16} << 20;          // bytes of a pickle
inline constexpr std::string_view ordered_dict = "collections OrderedDict";  // known beside the globals that the caller names

// Reads one pickle, at most pickle_limit bytes. Throws FileError, its message beginning with `origin`, for damage, for an
// opcode that torch.save does not write and for a global that is not in `globals`, both by name. The time and the memory
// that it takes grow with the number of bytes, whatever they are; nothing in it recurses.
PickleDocument parse_pickle(const std::string& origin, std::string_view bytes, std::span<const std::string_view> globals);

}  // namespace mblm
