// The data set `clevr`: a question, its image, the question again and its answer as one sequence of ids.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/config/fields.h"
#include "train/data/clevr_questions.h"
#include "train/data/dataset.h"
#include "train/data/image.h"

namespace mblm {

// io.dataset_args. As in the Python package 0 counts as not set, but for the special tokens.
struct ClevrArguments {
  std::string target_mode;              // qiqa or a: recorded, the weights decide
  std::vector<double> qiqa_loss_mask;   // of question, image, question, answer
  bool answer_categorical = false;      // one byte per answer, see clevr_answer_category
  std::optional<double> crop_h_perc, crop_w_perc;               // cut off on each side; both or none
  std::optional<std::int64_t> resize_to_w, resize_to_h;         // both or none
  std::optional<std::int64_t> downsample_channels;              // bins per channel
  std::optional<std::int64_t> shift_channels_start;             // only with bins
  std::optional<std::int64_t> enable_jpeg_stream_with_quality;  // the image is a JPEG stream
  bool jpeg_in_rgb_color_space = true;
  std::optional<std::int64_t> eom_token_id, som_text_token_id, som_image_token_id;
};
void declare_fields(Fields& f, ClevrArguments& arguments);

// Throws ConfigError for a field that is missing, unknown or wrong, and for a special token outside the vocabulary.
ClevrArguments read_clevr_arguments(const DatasetRequest& request);

// The bytes of an image in a sequence: cropped, resized, put into bins and shifted, then all red values, all green and all
// blue ones, or the JPEG stream. Throws ValueError when nothing is left or values are shifted past 255.
std::vector<std::uint8_t> clevr_image_bytes(Image image, const ClevrArguments& arguments);

// Each value becomes the mean, rounded down, of the borders of its bin: `bins` equal bins over 0..255, a border belongs to
// the bin above it, 255 to the last. 255 bins or more change nothing.
void put_into_bins(Image& image, std::int64_t bins);

// The values that occur, in order, become start, start + 1, ... Throws ValueError when that goes past 255.
void shift_values(Image& image, std::int64_t start);

// Sample i is question i: question ++ image ++ question ++ answer, each between its start token and the end token where they
// are given, padded with the pad id. The loss weights spread over the parts, those of the padding are 0.
class Clevr : public Dataset {
 public:
  // Reads the sample with the longest texts too, so that a sequence length, an image folder or a vocabulary that will not do
  // is found at once.
  Clevr(ClevrQuestions questions, std::filesystem::path images, ClevrArguments arguments, const DatasetRequest& request);

  std::int64_t size(std::int64_t) const override { return size_; }
  std::int64_t length() const override { return length_; }
  SequenceParts parts() const override { return {.loss_mask = true, .answers = true}; }  // answers of the kinds of clevr_question_type
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;

  const ClevrArguments& arguments() const { return arguments_; }
  ClevrQuestion question(std::int64_t index) const { return questions_[first_ + index]; }

  // The four parts of a sample with their special tokens, before padding.
  struct Sample {
    std::vector<std::int64_t> question, image, answer;
    std::int64_t count() const { return std::ssize(question) * 2 + std::ssize(image) + std::ssize(answer); }
  };
  Sample sample(std::int64_t index) const;

 private:
  std::vector<std::int64_t> text_ids(std::string_view text) const;
  std::string answer_text(const ClevrQuestion& question) const;
  std::string name_of_sample(std::int64_t index) const;
  std::int64_t index_of_longest() const;
  void check_answers() const;

  const ClevrQuestions questions_;
  const std::filesystem::path images_;
  const ClevrArguments arguments_;
  std::int64_t length_, num_tokens_, pad_token_id_;
  std::int64_t first_ = 0, size_ = 0;  // of the share of the questions
};

// questions/CLEVR_{train,val}_questions.json and images/{train,val}/. There is no test split: its questions have no answers.
std::unique_ptr<Dataset> make_clevr(const DatasetRequest& request);

}  // namespace mblm
