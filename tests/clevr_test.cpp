// The data set clevr: arguments, questions, image bytes and samples.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/error.h"
#include "tests/png_file.h"
#include "tests/temporary_folder.h"
#include "train/data/clevr.h"

namespace mblm::testing {
namespace {

const std::string two_pixels = png_file({.width = 2}, "\x01\x02\x03\x04\x05\x06");
const std::string plain = "target_mode: qiqa\nqiqa_loss_mask: [0.1, 0, 0.5, 1]\n";

std::string entry(const std::string& question, const std::string& answer, const std::string& function = "exist", const std::string& image = "a.png") {
  return R"({"image_index": 0, "program": [{"function": "scene", "inputs": []}, {"inputs": [0], "function": ")" + function +
         R"(", "value_inputs": ["question", "x"]}], "question": ")" + question + R"(", "answer": ")" + answer + R"(", "image_filename": ")" + image + "\"}";
}

std::string questions(const std::vector<std::string>& entries) {
  std::string list;
  for (const std::string& one : entries) list += (list.empty() ? "" : ", ") + one;
  return R"({"info": {"questions": [{"question": "not this"}]}, "questions": [)" + list + R"(], "after": {"question": "nor this"}})";
}

// A data set with the given questions and an image a.png of two pixels.
struct Folder : TemporaryFolder {
  explicit Folder(const std::vector<std::string>& entries) {
    for (const std::string split : {"train", "val"}) {
      write("questions/CLEVR_" + split + "_questions.json", questions(entries));
      write("images/" + split + "/a.png", two_pixels);
    }
  }
  std::string questions_file() const { return path().string() + "/questions/CLEVR_train_questions.json"; }
  std::string image_file() const { return path().string() + "/images/train/a.png"; }
  DatasetRequest request(const std::string& arguments = plain) const {
    return {.path = path(), .arguments = std::make_shared<const std::string>(arguments), .length = 20, .num_tokens = 512, .pad_token_id = 511};
  }
  std::unique_ptr<Dataset> open(const DatasetRequest& request) const { return DatasetRegistry().make("clevr", request); }
  // Returns the message of the E thrown by opening the data set or reading sample 0.
  template <class E>
  std::string error(const DatasetRequest& request) const {
    return message_of<E>([&] { read_batch(*open(request), {0, 0, 1}); });
  }
};

std::vector<std::int64_t> ids_of(const Dataset& dataset, std::int64_t index) {
  return read_batch(dataset, {0, index, 1}).ids.to_vector<std::int64_t>();
}

std::string arguments_error(const std::string& arguments) {
  return message_of<ConfigError>([&] { read_clevr_arguments({.arguments = std::make_shared<const std::string>(arguments), .num_tokens = 300}); });
}

Image image_of(const std::vector<std::uint8_t>& reds) {
  Image image(static_cast<std::int64_t>(reds.size()), 1);
  for (std::size_t i = 0; i < reds.size(); ++i) image.pixels[i * 3] = reds[i];
  return image;
}

std::vector<int> reds_of(const Image& image) {
  std::vector<int> reds;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) reds.push_back(image.pixels[i]);
  return reds;
}

}  // namespace

TEST_CASE("clevr: invalid arguments are reported") {
  CHECK(arguments_error("") ==
        "data set clevr: io.dataset_args.target_mode: expected qiqa or a, the field is missing\n"
        "data set clevr: io.dataset_args.qiqa_loss_mask: expected a list of numbers of at least 0, the field is missing");
  CHECK(arguments_error("target_mode: b\nqiqa_loss_mask: [1, 1, 1, 1]") == "data set clevr: io.dataset_args.target_mode: expected qiqa or a, got \"b\"");
  CHECK(arguments_error("target_mode: a\nqiqa_loss_mask: [1, 1, 1]") == "data set clevr: io.dataset_args.qiqa_loss_mask: expected 4 weights, got 3");
  CHECK(arguments_error(plain + "resize_to_x: 3").find("io.dataset_args.resize_to_x: no such field") != std::string::npos);
  CHECK(arguments_error(plain + "resize_to_w: 4097").find("io.dataset_args.resize_to_w: expected") != std::string::npos);
  CHECK(arguments_error(plain + "crop_h_perc: -0.1").find("io.dataset_args.crop_h_perc: expected") != std::string::npos);
  CHECK(arguments_error(plain + "enable_jpeg_stream_with_quality: 96").find("enable_jpeg_stream_with_quality: expected") != std::string::npos);
  CHECK(arguments_error(plain + "eom_token_id: 300") == "data set clevr: io.dataset_args.eom_token_id: expected an id below num_tokens 300, got 300");
  CHECK(arguments_error(plain + "eom_token_id: 299") == "(nothing was thrown)");
  CHECK(arguments_error(plain + "eom_token_id: null") == "(nothing was thrown)");
}

TEST_CASE("clevr: a sample consists of question, image, question, answer and padding") {
  const Folder folder({entry("Q?", "yes"), entry("Ok?", "10")});
  const auto simple = folder.open(folder.request());
  CHECK(simple->size(0) == 2);
  const Batch batch = read_batch(*simple, {0, 0, 1});
  CHECK(batch.ids.to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{'Q', '?', 1, 4, 2, 5, 3, 6, 'Q', '?', 'y', 'e', 's', 511, 511, 511, 511, 511, 511, 511});
  CHECK(batch.loss_mask.to_vector<float>() ==
        std::vector<float>{0.1f, 0.1f, 0, 0, 0, 0, 0, 0, 0.5f, 0.5f, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0});

  DatasetRequest request = folder.request("target_mode: a\nqiqa_loss_mask: [1, 2, 3, 4]\nanswer_categorical: true\neom_token_id: 300\n"
                                          "som_text_token_id: 301\nsom_image_token_id: 302");
  request.length = 25;
  const Batch marked = read_batch(*folder.open(request), {0, 1, 1});
  std::vector<std::int64_t> expected = {301, 'O', 'k', '?', 300, 302, 1, 4, 2, 5, 3, 6, 300};
  expected.insert(expected.end(), expected.begin(), expected.begin() + 5);
  for (const int id : {301, int{'A'}, 300, 511, 511, 511, 511}) expected.push_back(id);
  CHECK(marked.ids.to_vector<std::int64_t>() == expected);
  std::vector<float> weights;
  for (const auto& [weight, count] : {std::pair{1, 5}, {2, 8}, {3, 5}, {4, 3}, {0, 4}}) weights.insert(weights.end(), static_cast<std::size_t>(count), static_cast<float>(weight));
  CHECK(marked.loss_mask.to_vector<float>() == weights);
}

TEST_CASE("clevr: workers divide the training split, not the validation split") {
  const Folder folder({entry("0", "no"), entry("1", "no"), entry("2", "no"), entry("3", "no"), entry("4", "no")});
  DatasetRequest request = folder.request();
  request.worker = 1;
  request.workers = 2;
  const auto share = folder.open(request);
  CHECK(share->size(0) == 2);
  CHECK(ids_of(*share, 0)[0] == '2');
  CHECK(ids_of(*share, 1)[0] == '3');
  CHECK_THROWS_AS(ids_of(*share, 2), ValueError);
  request.split = Split::Validation;
  CHECK(folder.open(request)->size(0) == 5);
  request.split = Split::Test;
  CHECK(folder.open(request) == nullptr);
  request.split = Split::Train;
  request.workers = 6;
  CHECK(folder.error<FileError>(request) == folder.questions_file() + ": expected at least one question for each of 6 workers, found 5");
}

TEST_CASE("clevr: a sample that is too long is an error when the data is opened") {
  const Folder folder({entry("Q?", "yes"), entry("Longer?", "yes")});
  DatasetRequest request = folder.request();
  request.length = 22;
  CHECK(folder.error<ValueError>(request) == folder.questions_file() + ": question 1: expected a sample of at most input_seq_len 22 ids, found 23");
  request.length = 23;
  CHECK(folder.error<ValueError>(request) == "(nothing was thrown)");
  request.num_tokens = 'r';
  request.pad_token_id = 0;
  CHECK(folder.error<ValueError>(request) == folder.questions_file() + ": question 1: expected ids below num_tokens 114, found 114");
}

TEST_CASE("clevr: invalid images are reported") {
  const Folder folder({entry("Q?", "yes")});
  const auto error = [&] { return folder.error<Error>(folder.request()); };
  folder.write("images/train/a.png", "text");
  CHECK(error() == folder.image_file() + ": expected a PNG image, found another file format");
  folder.write("images/train/a.png", two_pixels.substr(0, two_pixels.size() - 20));
  CHECK(error().starts_with(folder.image_file() + ": damaged PNG image: "));
  folder.write("images/train/a.png", png_file({.width = 2, .depth = 16}, std::string(12, 'x')));
  CHECK(error() == folder.image_file() + ": expected an image with up to 8 bits per channel, found 16");
  std::filesystem::remove(folder.image_file());
  CHECK(error() == folder.image_file() + ": cannot be read: No such file or directory");
  folder.write("images/train/a.png", two_pixels);
  CHECK(folder.error<ValueError>(folder.request(plain + "crop_h_perc: 0.1\ncrop_w_perc: 0.5")) ==
        folder.image_file() + ": crop: removing 1 columns and 0 rows on each side leaves nothing of an image of 2 x 1");
  CHECK(folder.error<ValueError>(folder.request(plain + "downsample_channels: 254\nshift_channels_start: 251")) ==
        folder.image_file() + ": shift_channels_start: expected at most 250 for 6 values per channel, got 251");
}

TEST_CASE("clevr: invalid questions are reported") {
  const Folder folder({entry("Q?", "yes")});
  const std::string file = folder.questions_file(), good = questions({entry("Q?", "yes"), entry("R?", "no")});
  const auto error = [&](const std::string& content) {
    write_file(file, content);
    const std::string message = folder.error<FileError>(folder.request());
    CHECK(message.starts_with(file + ": "));
    return message.substr(std::min(message.size(), file.size() + 2));
  };
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
    CAPTURE(size);
    CHECK(error(good.substr(0, size)).starts_with("damaged JSON at byte "));
  }
  CHECK(error("[1, 2]") == "expected a nonempty list `questions`");
  CHECK(error(R"({"questions": {"question": "x"}})") == "expected a nonempty list `questions`");
  CHECK(error(questions({})) == "expected a nonempty list `questions`");
  CHECK(error(questions({entry("Q?", "no"), R"({"question": "Q?", "image_filename": "a.png"})"})) ==
        "question 1: expected a text in field `answer`, there is none");
  CHECK(error(questions({R"({"question": 5, "answer": "no", "image_filename": "a.png"})"})) ==
        "question 0: expected a text in field `question`, there is none");
  CHECK(error(questions({R"({"question": ["Q?"], "answer": "no", "image_filename": "a.png"})"})) ==
        "question 0: expected a text in field `question`, there is none");
  std::filesystem::remove(file);
  CHECK(folder.error<FileError>(folder.request()) == file + ": cannot be read: No such file or directory");
  const Folder strange({entry("Q?", "yes"), entry("Q?", "maybe")});
  CHECK(strange.error<FileError>(strange.request(plain + "answer_categorical: true")) ==
        strange.questions_file() + ": question 1: expected a CLEVR answer (answer_categorical), found maybe");
}

TEST_CASE("clevr: questions have their texts, image and last function") {
  const Folder folder({entry(R"(Gr\u00fc\u00df \"dich\"?)", "yes", "equal_size"), entry("", "no", "count", "b.png"), entry("Q?", "3", "count")});
  const ClevrQuestions all(folder.questions_file());
  REQUIRE(all.size() == 3);
  CHECK(all[0].question == "Grüß \"dich\"?");
  CHECK(all[0].answer == "yes");
  CHECK(all[0].image == "a.png");
  CHECK(all[0].last_function == "equal_size");
  CHECK(all[1].question.empty());
  CHECK(all[1].image == "b.png");
  CHECK(all[2].question == "Q?");
  CHECK(all[2].answer == "3");
  CHECK(all[2].image == "a.png");
  CHECK(all[2].last_function == "count");
  CHECK_THROWS_AS(all[3], ValueError);
}

TEST_CASE("clevr: kinds of questions and answers") {
  CHECK(clevr_question_type("exist") == "exists");
  CHECK(clevr_question_type("count") == "count");
  for (const char* function : {"equal_integer", "less_than", "greater_than"}) CHECK(clevr_question_type(function) == "compare_integer");
  for (const std::string attribute : {"color", "material", "shape", "size"}) {
    CHECK(clevr_question_type("query_" + attribute) == "query_attribute");
    CHECK(clevr_question_type("equal_" + attribute) == "compare_attribute");
    CHECK(clevr_question_type("filter_" + attribute) == "other");
  }
  CHECK(clevr_question_type("") == "other");
  CHECK(clevr_answer_category("0") == '0');
  CHECK(clevr_answer_category("9") == '9');
  CHECK(clevr_answer_category("10") == 'A');
  CHECK(clevr_answer_category("cylinder") == 'F');
  CHECK(clevr_answer_category("yes") == 'R');
  for (const char* answer : {"", "11", "x", "Yes", "A"}) CHECK(clevr_answer_category(answer) == '\0');
}

TEST_CASE("clevr: binned values are the means of the bin borders, shifted values are consecutive") {
  Image image = image_of({0, 63, 64, 127, 128, 254, 255});  // borders 0, 63.75, 127.5, 191.25, 255
  put_into_bins(image, 4);
  CHECK(reds_of(image) == std::vector<int>{31, 31, 95, 95, 159, 223, 223});
  shift_values(image, 250);
  CHECK(reds_of(image) == std::vector<int>{250, 250, 251, 251, 252, 253, 253});
  CHECK_THROWS_AS(shift_values(image, 253), ValueError);
  Image all = image_of({0, 84, 85, 170, 255});  // a border belongs to the bin above it
  put_into_bins(all, 3);
  CHECK(reds_of(all) == std::vector<int>{42, 42, 127, 212, 212});
  Image same = image_of({0, 1, 254, 255});
  put_into_bins(same, 255);
  CHECK(reds_of(same) == std::vector<int>{0, 1, 254, 255});
  put_into_bins(same, 1);
  CHECK(reds_of(same) == std::vector<int>{127, 127, 127, 127});
}

TEST_CASE("clevr: zero means not set, and an incomplete pair has no effect") {
  const Folder folder({entry("", "")});
  const std::vector<std::int64_t> expected = ids_of(*folder.open(folder.request()), 0);
  for (const char* more : {"crop_h_perc: 0\ncrop_w_perc: 0.5", "crop_w_perc: 0.5", "resize_to_w: 7", "resize_to_w: 0\nresize_to_h: 3", "downsample_channels: 0",
                           "shift_channels_start: 99", "enable_jpeg_stream_with_quality: 0", "downsample_channels: 255\nshift_channels_start: 0"}) {
    CAPTURE(more);
    CHECK(ids_of(*folder.open(folder.request(plain + more)), 0) == expected);
  }
  CHECK(ids_of(*folder.open(folder.request(plain + "downsample_channels: 255\nshift_channels_start: 9")), 0) != expected);
}

}  // namespace mblm::testing
