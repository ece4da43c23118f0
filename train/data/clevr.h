// The data set `clevr`: each sequence contains a question, its image, the question again and its answer.
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

// io.dataset_args. As in the Python package, 0 means not set, except for the special tokens.
struct ClevrArguments {
  std::string target_mode;             // qiqa or a; has no effect, the weights of qiqa_loss_mask apply
  std::vector<double> qiqa_loss_mask;  // loss weights of question, image, question, answer
  bool answer_categorical = false;     // encodes each answer in one byte, see clevr_answer_category
  std::optional<double> crop_h_perc, crop_w_perc;               // share cut off on each side; no effect unless both are set
  std::optional<std::int64_t> resize_to_w, resize_to_h;         // no effect unless both are set
  std::optional<std::int64_t> downsample_channels;              // bins per channel
  std::optional<std::int64_t> shift_channels_start;             // no effect without downsample_channels
  std::optional<std::int64_t> enable_jpeg_stream_with_quality;  // encodes the image as a JPEG stream
  bool jpeg_in_rgb_color_space = true;
  std::optional<std::int64_t> eom_token_id, som_text_token_id, som_image_token_id;
};
void declare_fields(Fields& f, ClevrArguments& arguments);

// Throws ConfigError for a missing, unknown or invalid field, and for a special token outside the vocabulary.
ClevrArguments read_clevr_arguments(const DatasetRequest& request);

// Crops, resizes, bins and shifts an image. Returns all red values, then all green and all blue ones, or the JPEG stream. Throws
// ValueError if the cropped image is empty or values are shifted past 255.
std::vector<std::uint8_t> clevr_image_bytes(Image image, const ClevrArguments& arguments);

// Replaces each value by the mean, rounded down, of the borders of its bin. There are `bins` equal bins over 0..255; a border
// belongs to the bin above it, 255 to the last bin. 255 or more bins change nothing.
void put_into_bins(Image& image, std::int64_t bins);

// Maps the values that occur, in ascending order, to start, start + 1, ... Throws ValueError if they exceed 255.
void shift_values(Image& image, std::int64_t start);

// Sample i consists of question i, its image, the question and the answer. Each part is enclosed by its start token and the end
// token if these are set. The pad id fills the rest. Each id has the loss weight of its part, padding has 0.
class Clevr : public Dataset {
 public:
  // Reads the sample with the longest texts, to detect a wrong sequence length, image folder or vocabulary at once.
  Clevr(ClevrQuestions questions, std::filesystem::path images, ClevrArguments arguments, const DatasetRequest& request);

  std::int64_t size(std::int64_t) const override { return size_; }
  std::int64_t length() const override { return length_; }
  SequenceParts parts() const override { return {.loss_mask = true, .answers = true}; }  // kinds: clevr_question_type
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override;
  std::string fingerprint() const override;  // of all questions and answers, and of samples with their images

  std::string describe() const override;

  const ClevrArguments& arguments() const { return arguments_; }
  ClevrQuestion question(std::int64_t index) const { return questions_[first_ + index]; }

  // The parts of a sample with their special tokens, before padding.
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
  std::int64_t first_ = 0, size_ = 0;  // this worker's share: questions [first_, first_ + size_)
};

// Reads questions/CLEVR_{train,val}_questions.json and images/{train,val}/. There is no test split, since its questions have no
// answers.
std::unique_ptr<Dataset> make_clevr(const DatasetRequest& request);

}  // namespace mblm
