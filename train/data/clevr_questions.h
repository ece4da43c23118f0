// The questions of CLEVR (Johnson et al., "CLEVR: A Diagnostic Dataset for Compositional Language and Elementary Visual
// Reasoning", 2017).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mblm {

struct ClevrQuestion {
  std::string_view question, answer, image;  // the image is a file name
  std::string_view last_function;            // of the question's program: "exist", "query_color", ...; empty without a program
};

// The questions of a JSON file `{"questions": [{"question", "answer", "image_filename", "program"}, ...]}`. The file can have hundreds
// of megabytes: it is parsed as a stream, and only the fields of ClevrQuestion stay in memory.
class ClevrQuestions {
 public:
  // Throws FileError, naming the file, if it is missing, truncated, not JSON, has no questions, or a question lacks a field.
  explicit ClevrQuestions(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  // The texts are valid for the lifetime of this object.
  ClevrQuestion operator[](std::int64_t index) const;

 private:
  friend class ClevrQuestionsHandler;
  struct Entry {
    std::uint64_t text;                  // start of the question in texts_; the answer follows
    std::uint32_t question, answer;      // lengths in bytes
    std::uint32_t image, last_function;  // indices into images_ and functions_
  };

  std::filesystem::path path_;
  std::vector<Entry> entries_;
  std::string texts_;
  std::vector<std::string> images_, functions_;  // without duplicates
};

// Returns the kind of a question from the last function of its program: exists, count, compare_integer, query_attribute or
// compare_attribute; other for unknown functions.
std::string_view clevr_question_type(std::string_view last_function);

// Returns the byte that encodes an answer under answer_categorical: the digit for 0 to 9, 'A' for 10, then 'B' to 'R' for the words
// in alphabetical order, from blue to yes. Returns '\0' for other texts.
char clevr_answer_category(std::string_view answer);

}  // namespace mblm
