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
  std::string_view last_function;            // of its program: "exist", "query_color", ...; empty when there is none
};

// The questions of one JSON file, `{"questions": [{"question", "answer", "image_filename", "program"}, ...]}`. Of the file, which
// may have hundreds of megabytes and is read piece by piece, only the fields of ClevrQuestion stay in memory.
class ClevrQuestions {
 public:
  // Throws FileError, naming the file, when it is missing, no JSON, cut, without questions or a question lacks a field.
  explicit ClevrQuestions(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  // The texts live as long as this object.
  ClevrQuestion operator[](std::int64_t index) const;

 private:
  friend class ClevrQuestionsHandler;
  struct Entry {
    std::uint64_t text;                    // where the question begins in texts_; the answer follows
    std::uint32_t question, answer;        // bytes
    std::uint32_t image, last_function;    // in images_, in functions_
  };

  std::filesystem::path path_;
  std::vector<Entry> entries_;
  std::string texts_;
  std::vector<std::string> images_, functions_;  // each once
};

// The kind of question by the last function of its program: exists, count, compare_integer, query_attribute or
// compare_attribute; other for a function that CLEVR does not have.
std::string_view clevr_question_type(std::string_view last_function);

// The byte that stands for an answer where answers are categories: 0..9 for themselves, A for 10, then B to R for the words in
// alphabetical order, from blue to yes. 0 for anything that is no answer of CLEVR.
char clevr_answer_category(std::string_view answer);

}  // namespace mblm
