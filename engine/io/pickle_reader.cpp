#include "engine/io/pickle_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/error.h"

namespace mblm {
namespace {

using Kind = PickleValue::Kind;

// Names of unsupported opcodes, for messages.
constexpr std::pair<char, std::string_view> other_opcodes[] = {
    {'0', "POP"},           {'1', "POP_MARK"},       {'2', "DUP"},           {'F', "FLOAT"},         {'I', "INT"},
    {'L', "LONG"},          {'P', "PERSID"},         {'S', "STRING"},        {'T', "BINSTRING"},
    {'V', "UNICODE"},       {'d', "DICT"},           {'g', "GET"},           {'i', "INST"},          {'l', "LIST"},
    {'o', "OBJ"},           {'p', "PUT"},            {'B', "BINBYTES"},      {'C', "SHORT_BINBYTES"},
    {'\x82', "EXT1"},       {'\x83', "EXT2"},        {'\x84', "EXT4"},       {'\x8b', "LONG4"},      {'\x8c', "SHORT_BINUNICODE"},
    {'\x8d', "BINUNICODE8"}, {'\x8e', "BINBYTES8"},  {'\x90', "ADDITEMS"},   {'\x91', "FROZENSET"},
    {'\x92', "NEWOBJ_EX"},  {'\x93', "STACK_GLOBAL"}, {'\x94', "MEMOIZE"},   {'\x95', "FRAME"},      {'\x96', "BYTEARRAY8"},
    {'\x97', "NEXT_BUFFER"}, {'\x98', "READONLY_BUFFER"}};

const char* name_of(Kind kind) {
  constexpr const char* names[] = {"None", "a boolean", "an integer", "a real number", "a string", "a tuple", "a list", "a dict", "a global", "a call",
                                   "a persistent id", "an object"};
  return names[static_cast<int>(kind)];
}

class Reader {
 public:
  Reader(const std::string& origin, std::string_view bytes, std::span<const std::string_view> globals)
      : origin_(origin), bytes_(bytes), globals_(globals) {}

  PickleDocument run() {
    check(bytes_.size() <= pickle_limit, "expected a pickle of at most ", pickle_limit, " bytes, found ", bytes_.size());
    for (char opcode = take(1)[0]; opcode != '.'; opcode = take(1)[0]) step(opcode);
    check(marks_.empty() && stack_.size() == 1, "expected one value at the end, found ", stack_.size(), " values and ", marks_.size(), " open marks");
    document_.root = stack_.back();
    return std::move(document_);
  }

 private:
  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    require<FileError>(ok, origin_, ": ", parts...);
  }

  std::string_view take(std::size_t count) {
    check(count <= bytes_.size() - at_, "expected ", count, " more bytes after byte ", at_, " of the pickle, found ", bytes_.size() - at_);
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  // A little-endian integer of `count` bytes.
  std::uint64_t take_number(std::size_t count) {
    std::uint64_t number = 0;
    const std::string_view bytes = take(count);
    for (std::size_t i = count; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[i]);
    return number;
  }
  std::string_view take_line() {
    const std::size_t end = bytes_.find('\n', at_);
    check(end != bytes_.npos, "expected the end of a line after byte ", at_, " of the pickle, found none");
    const std::string_view line = take(end - at_);
    take(1);
    return line;
  }

  PickleValue& push(Kind kind) {
    PickleValue& value = document_.values.emplace_back();
    value.kind = kind;
    stack_.push_back(&value);
    return value;
  }
  void push_integer(Kind kind, std::int64_t integer) { push(kind).integer = integer; }

  // Only values above the last mark may be taken.
  PickleValue* top(std::size_t depth = 0) const {
    check(stack_.size() - (marks_.empty() ? 0 : marks_.back()) > depth, "expected a value on the stack at byte ", at_, " of the pickle, found none");
    return stack_[stack_.size() - 1 - depth];
  }
  PickleValue* pop() {
    PickleValue* const value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<const PickleValue*> pop_some(std::size_t count) {
    if (count > 0) top(count - 1);
    std::vector<const PickleValue*> values(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return values;
  }
  std::vector<const PickleValue*> pop_to_mark() {
    check(!marks_.empty(), "expected a mark before byte ", at_, " of the pickle, found none");
    std::vector<const PickleValue*> values = pop_some(stack_.size() - marks_.back());
    marks_.pop_back();
    return values;
  }

  void push_tuple(std::vector<const PickleValue*> items) { push(Kind::Tuple).items = std::move(items); }

  void extend(Kind kind, const std::vector<const PickleValue*>& items) {
    PickleValue& target = *top();
    check(target.kind == kind, "expected ", name_of(kind), " to add to before byte ", at_, " of the pickle, found ", name_of(target.kind));
    check(kind == Kind::List || items.size() % 2 == 0, "expected key-value pairs before byte ", at_, " of the pickle, found an odd number of values");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  // Python numbers memo entries from zero and stores each with an opcode of at least two bytes, so the number of bytes is a
  // bound of the index.
  void put(std::uint64_t index) {
    check(index < bytes_.size(), "expected a memo index below ", bytes_.size(), " at byte ", at_, " of the pickle, found ", index);
    if (memo_.size() <= index) memo_.resize(static_cast<std::size_t>(index) + 1);
    memo_[static_cast<std::size_t>(index)] = top();
  }
  void get(std::uint64_t index) {
    PickleValue* const value = index < memo_.size() ? memo_[static_cast<std::size_t>(index)] : nullptr;
    check(value != nullptr, "expected a value at memo index ", index, " at byte ", at_, " of the pickle, found none");
    stack_.push_back(value);
  }

  void push_long() {
    const std::size_t count = static_cast<std::size_t>(take_number(1));
    if (count > 8) {  // for example a random seed of 64 bits without a sign
      take(count);
      push(Kind::Other);
      return;
    }
    const std::uint64_t bits = take_number(count);
    const int unused = 64 - 8 * static_cast<int>(count);
    push_integer(Kind::Integer, count == 0 ? 0 : static_cast<std::int64_t>(bits << unused) >> unused);
  }
  void push_real() {
    std::uint64_t bits = 0;  // big-endian
    for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
    push(Kind::Real).real = std::bit_cast<double>(bits);
  }
  void push_global() {
    const std::string_view module = take_line(), name = take_line();
    std::string text = concat_text(module, ' ', name);
    check(text == ordered_dict || text == counter || std::find(globals_.begin(), globals_.end(), text) != globals_.end(),
          "expected only globals that torch.save writes for tensors, found ", shown_text(concat_text(module, '.', name)));
    push(Kind::Global).text = std::move(text);
  }

  // A call of a global, or the creation of an object of a class: both only record the global and the arguments. Dicts of the known
  // classes become dicts, so that items can be set.
  void call() {
    const PickleValue* const arguments = pop();
    const PickleValue* const function = pop();
    check(function->kind == Kind::Global && arguments->kind == Kind::Tuple, "expected a call of a global with a tuple before byte ", at_,
          " of the pickle, found ", name_of(function->kind), " and ", name_of(arguments->kind));
    if (function->text == ordered_dict || function->text == counter) {
      if (std::optional<std::vector<const PickleValue*>> items = items_of_dict(arguments->items)) {
        copied_ += items->size();  // a dict that is copied again and again would fill the memory
        check(copied_ <= bytes_.size(), "expected at most ", bytes_.size(), " copied items, found more");
        push(Kind::Dict).items = std::move(*items);
        return;
      }
    }
    push(Kind::Call).items = {function, arguments};
  }

  // The keys and values of a dict that is created without arguments, from a dict, or from a list of pairs; nothing for other arguments.
  static std::optional<std::vector<const PickleValue*>> items_of_dict(const std::vector<const PickleValue*>& arguments) {
    std::vector<const PickleValue*> items;
    if (arguments.empty()) return items;
    if (arguments.size() > 1) return {};
    if (arguments[0]->kind == Kind::Dict) return arguments[0]->items;
    if (arguments[0]->kind != Kind::List) return {};
    for (const PickleValue* pair : arguments[0]->items) {
      if ((pair->kind != Kind::List && pair->kind != Kind::Tuple) || pair->items.size() != 2) return {};
      items.insert(items.end(), pair->items.begin(), pair->items.end());
    }
    return items;
  }

  // Ignores attributes. For dicts torch stores module versions there; attributes of other objects are not needed either.
  void set_attributes() {
    pop();
    const Kind kind = top()->kind;
    check(kind == Kind::Dict || kind == Kind::Call, "expected attributes of a dict or an object before byte ", at_, " of the pickle, found ", name_of(kind));
  }

  [[noreturn]] void refuse(char opcode) const {
    const auto known = std::find_if(std::begin(other_opcodes), std::end(other_opcodes), [&](const auto& other) { return other.first == opcode; });
    constexpr const char* digits = "0123456789abcdef";
    const auto code = static_cast<unsigned char>(opcode);
    throw FileError(concat_text(origin_, ": expected opcodes that torch.save writes, found ", known == std::end(other_opcodes) ? "an unknown opcode" : known->second,
                                " (0x", digits[code >> 4], digits[code & 15], ") at byte ", at_ - 1, " of the pickle"));
  }

  void step(char opcode) {
    switch (opcode) {
      case '\x80': {  // PROTO
        const std::uint64_t protocol = take_number(1);
        return check(protocol == 2 || protocol == 3, "expected a pickle of protocol 2, as torch.save writes it, found protocol ", protocol);
      }
      case 'N': push(Kind::None); return;
      case '\x88': return push_integer(Kind::Bool, 1);                                                        // NEWTRUE
      case '\x89': return push_integer(Kind::Bool, 0);                                                        // NEWFALSE
      case 'K': return push_integer(Kind::Integer, static_cast<std::int64_t>(take_number(1)));                // BININT1
      case 'M': return push_integer(Kind::Integer, static_cast<std::int64_t>(take_number(2)));                // BININT2
      case 'J': return push_integer(Kind::Integer, static_cast<std::int32_t>(take_number(4)));                // BININT
      case '\x8a': return push_long();                                                                        // LONG1
      case 'G': return push_real();                                                                           // BINFLOAT
      case 'X': {                                                                                             // BINUNICODE
        const std::size_t length = static_cast<std::size_t>(take_number(4));
        push(Kind::Text).text = take(length);
        return;
      }
      case 'U': {                                                                                             // SHORT_BINSTRING
        const std::size_t length = static_cast<std::size_t>(take_number(1));
        push(Kind::Text).text = take(length);
        return;
      }
      case '\x8f': push(Kind::Other); return;                                                                 // EMPTY_SET
      case '(': marks_.push_back(stack_.size()); return;                                                      // MARK
      case ')': return push_tuple({});                                                                        // EMPTY_TUPLE
      case '\x85': return push_tuple(pop_some(1));                                                            // TUPLE1
      case '\x86': return push_tuple(pop_some(2));                                                            // TUPLE2
      case '\x87': return push_tuple(pop_some(3));                                                            // TUPLE3
      case 't': return push_tuple(pop_to_mark());                                                             // TUPLE
      case ']': push(Kind::List); return;                                                                     // EMPTY_LIST
      case '}': push(Kind::Dict); return;                                                                     // EMPTY_DICT
      case 'a': return extend(Kind::List, pop_some(1));                                                       // APPEND
      case 'e': return extend(Kind::List, pop_to_mark());                                                     // APPENDS
      case 's': return extend(Kind::Dict, pop_some(2));                                                       // SETITEM
      case 'u': return extend(Kind::Dict, pop_to_mark());                                                     // SETITEMS
      case 'q': return put(take_number(1));                                                                   // BINPUT
      case 'r': return put(take_number(4));                                                                   // LONG_BINPUT
      case 'h': return get(take_number(1));                                                                   // BINGET
      case 'j': return get(take_number(4));                                                                   // LONG_BINGET
      case 'c': return push_global();                                                                         // GLOBAL
      case 'R': return call();                                                                                // REDUCE
      case '\x81': return call();                                                                             // NEWOBJ
      case 'b': return set_attributes();                                                                      // BUILD
      case 'Q': {                                                                                             // BINPERSID
        const PickleValue* const id = pop();
        push(Kind::Persistent).items = {id};
        return;
      }
      default: refuse(opcode);
    }
  }

  const std::string& origin_;
  const std::string_view bytes_;
  const std::span<const std::string_view> globals_;
  std::size_t at_ = 0, copied_ = 0;
  PickleDocument document_;
  std::vector<PickleValue*> stack_, memo_;
  std::vector<std::size_t> marks_;  // sizes of the stack
};

}  // namespace

PickleDocument parse_pickle(const std::string& origin, std::string_view bytes, std::span<const std::string_view> globals) {
  return Reader(origin, bytes, globals).run();
}

}  // namespace mblm
