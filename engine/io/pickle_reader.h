// Reads the part of Python's pickle format, protocol 2 (https://peps.python.org/pep-0307/), that torch.load(weights_only=True) reads. Reading
// builds a graph of values and executes nothing: a global is only a name, and a call only records its function and arguments.
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
    Text,        // text; not checked to be UTF-8
    Tuple,       // items
    List,        // items
    Dict,        // items: key, value, key, value, ...; also an OrderedDict or a Counter
    Global,      // text: module, a space, name
    Call,        // items: the global and its arguments, a tuple; also an object of a class
    Persistent,  // items: one, the id of an object outside the pickle
    Other,       // a value without content here: an integer of more than 64 bits, a set
  };
  Kind kind = Kind::None;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<const PickleValue*> items;  // may contain cycles: follow to a fixed depth only
};

struct PickleDocument {
  std::deque<PickleValue> values;  // pointers to them stay valid when the document moves
  const PickleValue* root = nullptr;
};

inline constexpr std::size_t pickle_limit = std::size_t{16} << 20;          // bytes of a pickle
// Accepted in addition to the caller's globals.
inline constexpr std::string_view ordered_dict = "collections OrderedDict", counter = "collections Counter";

// Reads one pickle, of protocol 2 or 3 and at most pickle_limit bytes. Throws FileError, whose message begins with `origin`, for damaged bytes, for
// an opcode that torch.load(weights_only=True) does not read, and for a global that is not in `globals`; the message names the opcode or global.
// Time and memory are linear in the number of bytes for any input; there is no recursion.
PickleDocument parse_pickle(const std::string& origin, std::string_view bytes, std::span<const std::string_view> globals);

}  // namespace mblm
