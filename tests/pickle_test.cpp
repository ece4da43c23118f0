// Pickles: the reader accepts what torch.save writes, rejects other opcodes and globals by name, and limits time and memory.
#include "engine/io/pickle_reader.h"

#include <doctest/doctest.h>

#include <random>

#include "engine/error.h"
#include "tests/error_text.h"
#include "tests/torch_bytes.h"

namespace mblm::testing {
namespace {

using Kind = PickleValue::Kind;

const std::vector<std::string_view> known{"torch FloatStorage", "torch._utils _rebuild_tensor_v2"};

PickleDocument parse(const std::string& value) { return parse_pickle("file", pickle_file(value), known); }

// The error message for the bytes, without the name at its start.
std::string refusal_of_bytes(const std::string& bytes) {
  const std::string message = error_text<FileError>([&] { parse_pickle("file", bytes, known); });
  if (message == "no error") return message;
  REQUIRE(message.starts_with("file: expected "));
  CHECK(message.find(", found ") != message.npos);
  CHECK(message.find('\n') == message.npos);
  CHECK(message.size() < 300);
  return message.substr(6);
}
std::string refusal(const std::string& value) { return refusal_of_bytes(pickle_file(value)); }

}  // namespace

TEST_CASE("scalars") {
  const auto integer = [](const std::string& value, Kind kind) {
    const PickleDocument document = parse(value);
    REQUIRE(document.root->kind == kind);
    return document.root->integer;
  };
  CHECK(parse("N").root->kind == Kind::None);
  CHECK(integer("\x88", Kind::Bool) == 1);
  CHECK(integer("\x89", Kind::Bool) == 0);
  CHECK(integer("K\xff", Kind::Integer) == 255);
  CHECK(integer("M" + little_endian(0xfffe, 2), Kind::Integer) == 65534);
  CHECK(integer("J" + little_endian(0xfffffffe, 4), Kind::Integer) == -2);
  CHECK(integer(pickle_integer(INT64_MIN), Kind::Integer) == INT64_MIN);
  CHECK(integer(std::string("\x8a\0", 2), Kind::Integer) == 0);
  CHECK(integer("\x8a\x01\xff", Kind::Integer) == -1);
  CHECK(integer(std::string("\x8a\x05\0\0\0\0\x02", 7), Kind::Integer) == std::int64_t{2} << 32);
  CHECK(parse(std::string("G\x3f\xf4\0\0\0\0\0\0", 9)).root->real == 1.25);
  CHECK(parse(pickle_text(std::string("a\0b", 3))).root->text == std::string("a\0b", 3));
  CHECK(parse(pickle_text("")).root->text.empty());
}

TEST_CASE("containers, marks and the memo") {
  const std::string list = "]q\1K\1a(K\2K\3e", dict = "}" + pickle_text("k") + "h\1s(" + pickle_text("a") + "K\4" + pickle_text("b") + "K\5u";
  const PickleDocument document = parse("(" + list + dict + "t");
  REQUIRE(document.root->kind == Kind::Tuple);
  REQUIRE(document.root->items.size() == 2);
  const PickleValue &first = *document.root->items[0], &second = *document.root->items[1];
  REQUIRE(first.kind == Kind::List);
  REQUIRE(first.items.size() == 3);
  for (std::int64_t i = 0; i < 3; ++i) CHECK(first.items[static_cast<std::size_t>(i)]->integer == i + 1);
  REQUIRE(second.kind == Kind::Dict);
  REQUIRE(second.items.size() == 6);
  CHECK(second.items[0]->text == "k");
  CHECK(second.items[1] == &first);
  CHECK(second.items[4]->text == "b");
  CHECK(second.items[5]->integer == 5);
  for (const char* tuple : {"NN\x86", "NNN\x87", "N\x85", ")", "(NNNNt"}) CHECK(parse(tuple).root->kind == Kind::Tuple);
  CHECK(parse("Nr" + little_endian(2, 4) + "j" + little_endian(2, 4) + "\x86").root->items.size() == 2);
}

TEST_CASE("calls are recorded and not executed") {
  const PickleDocument document = parse(pickle_global("torch._utils", "_rebuild_tensor_v2") + pickle_tuple("K\7") + "R");
  REQUIRE(document.root->kind == Kind::Call);
  CHECK(document.root->items[0]->text == "torch._utils _rebuild_tensor_v2");
  REQUIRE(document.root->items[1]->items.size() == 1);
  CHECK(document.root->items[1]->items[0]->integer == 7);
  const PickleDocument dict = parse(pickle_global("collections", "OrderedDict") + ")R(" + pickle_text("k") + "K\1u}" + pickle_text("_metadata") + "Nsb");
  CHECK(dict.root->kind == Kind::Dict);
  CHECK(dict.root->items.size() == 2);
  CHECK(parse("K\1Q").root->kind == Kind::Persistent);
}

TEST_CASE("globals that torch.save does not write are rejected by name") {
  const auto message = [](const std::string& name) { return "expected only globals that torch.save writes for tensors, found \"" + name + "\""; };
  CHECK(refusal(pickle_global("os", "system") + pickle_tuple(pickle_text("touch /tmp/pwned")) + "R") == message("os.system"));
  CHECK(refusal(pickle_global("builtins", "eval")) == message("builtins.eval"));
  CHECK(refusal(pickle_global("torch", "load")) == message("torch.load"));
  CHECK(refusal(pickle_global("torch FloatStorage", "")) == message("torch FloatStorage."));
  CHECK(refusal(pickle_global("", "")) == message("."));
  CHECK(refusal(pickle_global("a\x1b[2J", std::string(5000, 'b'))).find("a?[2J.bbbb") != std::string::npos);
  CHECK(refusal("cos\nsystem") == "expected the end of a line after byte 6 of the pickle, found none");
}

TEST_CASE("opcodes that torch.save does not write are rejected by name") {
  const auto message = [](const std::string& name) { return "expected opcodes that torch.save writes, found " + name + " at byte 2 of the pickle"; };
  CHECK(refusal("(S'ls'\nios\nsystem\n") != "no error");
  CHECK(refusal("ios\nsystem\n") == message("INST (0x69)"));
  CHECK(refusal("o") == message("OBJ (0x6f)"));
  CHECK(refusal("\x93") == message("STACK_GLOBAL (0x93)"));
  CHECK(refusal("\x82\x01") == message("EXT1 (0x82)"));
  CHECK(refusal(std::string(1, '\0')) == message("an unknown opcode (0x00)"));
  CHECK(refusal("\xff") == message("an unknown opcode (0xff)"));
  const std::string accepted = "N\x88\x89KMJ\x8aGXU()\x85\x86\x87t]}\x8f" "aesuqrhjcR\x81" "bQ.\x80";
  for (int opcode = 0; opcode < 256; ++opcode) {
    CAPTURE(opcode);
    const bool is_accepted = accepted.find(static_cast<char>(opcode)) != accepted.npos;
    CHECK(refusal(std::string(1, static_cast<char>(opcode))).starts_with("expected opcodes that torch.save writes") == !is_accepted);
  }
  for (const char* protocol : {"\x80\x01N.", "\x80\x04N.", "\x80\xffN."})
    CHECK(refusal_of_bytes(protocol).starts_with("expected a pickle of protocol 2, as torch.save writes it, found protocol"));
}

TEST_CASE("empty stacks, missing marks and missing memo entries") {
  for (const char* opcode : {"Q", "R", "b", "a", "s", "\x85", "\x86", "\x87", "q\1"})
    CHECK(refusal(opcode).starts_with("expected a value on the stack at byte"));
  for (const char* opcode : {"t", "e", "u"}) CHECK(refusal(opcode).starts_with("expected a mark before byte"));
  CHECK(refusal("N(R").starts_with("expected a value on the stack"));  // values below a mark cannot be taken
  CHECK(refusal("NN(\x86").starts_with("expected a value on the stack"));
  CHECK(refusal("h\1") == "expected a value at memo index 1 at byte 4 of the pickle, found none");
  CHECK(refusal("j" + little_endian(0xffffffff, 4)).starts_with("expected a value at memo index 4294967295"));
  CHECK(refusal("Nr" + little_endian(0xffffffff, 4)) ==
        "expected a memo index below 9 at byte 8 of the pickle, found 4294967295");
  CHECK(refusal("") == "expected one value at the end, found 0 values and 0 open marks");
  CHECK(refusal("NN") == "expected one value at the end, found 2 values and 0 open marks");
  CHECK(refusal("N(") == "expected one value at the end, found 1 values and 1 open marks");
}

TEST_CASE("values of the wrong kind") {
  CHECK(refusal("N)R").starts_with("expected a call of a global with a tuple"));
  CHECK(refusal(pickle_global("torch", "FloatStorage") + "NR").starts_with("expected a call of a global with a tuple"));
  CHECK(refusal("NNa").starts_with("expected a list to add to"));
  CHECK(refusal(")Na").starts_with("expected a list to add to"));
  CHECK(refusal("]NNs").starts_with("expected a dict to add to"));
  CHECK(refusal("}(Nu").starts_with("expected key-value pairs"));
  CHECK(refusal("]Nb").starts_with("expected attributes of a dict"));
  CHECK(refusal("Nb").starts_with("expected a value on the stack"));
}

TEST_CASE("truncated pickles are rejected") {
  const std::string whole = pickle_of(TensorBytes{});
  REQUIRE(refusal_of_bytes(whole) == "no error");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal_of_bytes(whole.substr(0, length)) != "no error");
  }
  CHECK(refusal("X" + little_endian(0xffffffff, 4) + "short").starts_with("expected 4294967295 more bytes after byte 7 of the pickle, found 6"));
}

TEST_CASE("deep and circular values are harmless") {
  const std::size_t depth = 1'000'000;
  std::string nested = "N";
  for (std::size_t i = 0; i < depth; ++i) nested += "\x85";
  CHECK(parse(nested).values.size() == depth + 1);
  CHECK(refusal(std::string(depth, '(')).starts_with("expected one value at the end, found 0 values and 1000000 open marks"));
  const PickleDocument itself = parse(std::string("]q\0h\0a", 6));
  REQUIRE(itself.root->items.size() == 1);
  CHECK(itself.root->items[0] == itself.root);
  CHECK(refusal_of_bytes(std::string(pickle_limit + 1, 'N')).starts_with("expected a pickle of at most"));
}

TEST_CASE("randomly damaged pickles are read or rejected") {
  const std::string whole = pickle_of(TensorBytes{});
  const std::string opcodes = "NKMJGX()t]}aesuqrhjcRbQ.\x80\x85\x86\x87\x88\x89\x8a";
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 5000; ++trial) {
    std::string damaged = whole;
    for (std::uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
      char& byte = damaged[random() % damaged.size()];
      byte = random() % 2 == 0 ? static_cast<char>(random()) : opcodes[random() % opcodes.size()];
    }
    refusal_of_bytes(damaged);
  }
}

TEST_CASE("values that are skipped") {
  CHECK(parse("\x8a\x09" + std::string(9, '\1')).root->kind == Kind::Other);  // beyond 64 bits
  CHECK(parse("\x8f").root->kind == Kind::Other);
  CHECK(parse("U\x03" "abc").root->text == "abc");
  CHECK(parse_pickle("file", "\x80\x03N.", known).root->kind == Kind::None);
  CHECK(parse(pickle_global("torch", "FloatStorage") + ")\x81}b").root->kind == Kind::Call);
}

TEST_CASE("dicts of collections") {
  const auto items = [](const std::string& value) {
    const PickleDocument document = parse(value);
    REQUIRE(document.root->kind == Kind::Dict);
    return document.root->items.size();
  };
  for (const char* name : {"OrderedDict", "Counter"}) {
    const std::string type = pickle_global("collections", name);
    CHECK(items(type + ")R") == 0);
    CHECK(items(type + ")\x81") == 0);
    CHECK(items(type + "}" + pickle_text("k") + "K\1s\x85R") == 2);
    CHECK(items(type + "](" + pickle_text("k") + "K\1\x86" + pickle_text("l") + "K\2\x86" "e\x85R" + pickle_text("m") + "K\3s") == 6);
    CHECK(parse(type + "N\x85R").root->kind == Kind::Call);
  }
  std::string copies = "(}q\1(";  // a tuple of a dict and its copies
  for (int i = 0; i < 1000; ++i) copies += "K\1K\1";
  copies += "u" + pickle_global("collections", "OrderedDict") + "q\2";
  for (int i = 0; i < 1000; ++i) copies += "h\2h\1\x85R";
  CHECK(refusal(copies + "t").find(" copied items, found more") != std::string::npos);
}

}  // namespace mblm::testing
