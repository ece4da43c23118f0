#include "train/data/clevr_questions.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "engine/error.h"
#include "engine/io/file.h"

namespace mblm {

// Handles the events of nlohmann's parser. The relevant fields are at fixed depths:
//   1 {"questions": 2 [ 3 {"question": "...", "program": 4 [ 5 {"function": "..."} ] } ] }
class ClevrQuestionsHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ClevrQuestionsHandler(ClevrQuestions& to) : to_(to) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_array(std::size_t) override {
    if (depth_ == 1) in_questions_ = root_key_ == "questions";
    target_ = nullptr;
    ++depth_;
    return true;
  }
  bool end_array() override {
    if (--depth_ == 1) in_questions_ = false;
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 1) in_questions_ = false;
    ++depth_;
    if (in_questions_ && depth_ == 3) fields_ = {};
    return true;
  }
  bool end_object() override {
    if (in_questions_ && depth_ == 3) add_question();
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) root_key_ = name;
    if (!in_questions_) return true;
    if (depth_ == 3) in_program_ = name == "program";
    target_ = nullptr;
    if (depth_ == 3 && name == "question") target_ = &fields_.question;
    if (depth_ == 3 && name == "answer") target_ = &fields_.answer;
    if (depth_ == 3 && name == "image_filename") target_ = &fields_.image;
    if (depth_ == 5 && in_program_ && name == "function") target_ = &fields_.function;
    return true;
  }
  bool string(string_t& text) override {
    if (target_ != nullptr) *target_ = std::move(text);
    target_ = nullptr;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
    const std::string what = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    throw FileError(concat_text(to_.path_.string(), ": damaged JSON at byte ", position, ": ", what.substr(std::min(what.find("] ") + 2, what.size()))));
  }

 private:
  struct Fields {
    std::optional<std::string> question, answer, image, function;
  };
  using Numbers = std::unordered_map<std::string, std::uint32_t>;

  void add_question() {
    const auto check = [&](const std::optional<std::string>& field, const char* name) {
      require<FileError>(field.has_value(), to_.path_.string(), ": question ", to_.size(), ": expected a text in field `", name, "`, there is none");
    };
    check(fields_.question, "question");
    check(fields_.answer, "answer");
    check(fields_.image, "image_filename");
    to_.entries_.push_back({to_.texts_.size(), static_cast<std::uint32_t>(fields_.question->size()), static_cast<std::uint32_t>(fields_.answer->size()),
                            number_of(*fields_.image, image_numbers_, to_.images_),
                            number_of(fields_.function.value_or(""), function_numbers_, to_.functions_)});
    to_.texts_ += *fields_.question;
    to_.texts_ += *fields_.answer;
  }

  static std::uint32_t number_of(const std::string& name, Numbers& numbers, std::vector<std::string>& names) {
    const auto [entry, is_new] = numbers.emplace(name, static_cast<std::uint32_t>(names.size()));
    if (is_new) names.push_back(name);
    return entry->second;
  }

  ClevrQuestions& to_;
  Numbers image_numbers_, function_numbers_;
  int depth_ = 0;
  std::string root_key_;
  bool in_questions_ = false, in_program_ = false;
  Fields fields_;
  std::optional<std::string>* target_ = nullptr;  // receives the next string
};

ClevrQuestions::ClevrQuestions(const std::filesystem::path& path) : path_(path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_file_error(path, "cannot be read");
  ClevrQuestionsHandler handler(*this);
  nlohmann::json::sax_parse(file, &handler);
  require<FileError>(!entries_.empty(), path.string(), ": expected a nonempty list `questions`");
  entries_.shrink_to_fit();
  texts_.shrink_to_fit();
}

ClevrQuestion ClevrQuestions::operator[](std::int64_t index) const {
  require<ValueError>(index >= 0 && index < size(), path_.string(), ": expected a question in [0, ", size(), "), got ", index);
  const Entry& entry = entries_[static_cast<std::size_t>(index)];
  const std::string_view texts = texts_;
  return {texts.substr(entry.text, entry.question), texts.substr(entry.text + entry.question, entry.answer), images_[entry.image],
          functions_[entry.last_function]};
}

std::string_view clevr_question_type(std::string_view last_function) {
  if (last_function == "exist") return "exists";
  if (last_function == "count") return "count";
  if (last_function == "equal_integer" || last_function == "less_than" || last_function == "greater_than") return "compare_integer";
  for (const std::string_view attribute : {"color", "material", "shape", "size"}) {
    if (!last_function.ends_with(attribute)) continue;
    const std::string_view start = last_function.substr(0, last_function.size() - attribute.size());
    if (start == "query_") return "query_attribute";
    if (start == "equal_") return "compare_attribute";
  }
  return "other";
}

char clevr_answer_category(std::string_view answer) {
  constexpr std::string_view words[] = {"10",    "blue",  "brown", "cube",   "cyan", "cylinder", "gray",  "green",  "large",
                                        "metal", "no",    "purple", "red",   "rubber", "small",  "sphere", "yellow", "yes"};
  if (answer.size() == 1 && answer[0] >= '0' && answer[0] <= '9') return answer[0];
  const auto found = std::find(std::begin(words), std::end(words), answer);
  return found == std::end(words) ? '\0' : static_cast<char>('A' + (found - std::begin(words)));
}

}  // namespace mblm
