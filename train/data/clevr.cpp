#include "train/data/clevr.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/io/checksum.h"
#include "train/data/jpeg.h"
#include "train/data/resize.h"

namespace mblm {
namespace {

constexpr Range side{.minimum = 0, .maximum = 4096};  // pixels; the product of two maximum sides is most_pixels
constexpr Range values{.minimum = 0, .maximum = 255};
constexpr Range quality{.minimum = 0, .maximum = 95};
constexpr std::size_t parts_of_sample = 4;

using ByteMap = std::array<std::uint8_t, 256>;

void map_values(Image& image, const ByteMap& map) {
  for (std::uint8_t& value : image.pixels) value = map[value];
}

// (height, width, 3) to (3, height, width)
std::vector<std::uint8_t> channels_first(const Image& image) {
  const std::size_t area = image.pixels.size() / 3;
  std::vector<std::uint8_t> bytes(image.pixels.size());
  for (std::size_t i = 0; i < area; ++i)
    for (std::size_t channel = 0; channel < 3; ++channel) bytes[channel * area + i] = image.pixels[i * 3 + channel];
  return bytes;
}

Image with_margins_cut(const Image& image, double share_of_height, double share_of_width) {
  const auto margin = [](std::int64_t size, double part) {
    const double pixels = static_cast<double>(size);
    return static_cast<std::int64_t>(std::min(pixels * part, pixels / 2));
  };
  return cropped(image, margin(image.width, share_of_width), margin(image.height, share_of_height));
}

template <class T>
bool is_set(const std::optional<T>& value) {
  return value.value_or(0) != 0;
}

// Appends bytes as ids 0..255, independent of the signedness of `char`.
void append(std::vector<std::int64_t>& ids, std::string_view text) {
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
}

}  // namespace

void declare_fields(Fields& f, ClevrArguments& arguments) {
  f.choice("target_mode", arguments.target_mode, {"qiqa", "a"}, true);
  f.required("qiqa_loss_mask", arguments.qiqa_loss_mask, not_negative);
  f.optional("answer_categorical", arguments.answer_categorical);
  f.optional("crop_h_perc", arguments.crop_h_perc, share);
  f.optional("crop_w_perc", arguments.crop_w_perc, share);
  f.optional("resize_to_w", arguments.resize_to_w, side);
  f.optional("resize_to_h", arguments.resize_to_h, side);
  f.optional("downsample_channels", arguments.downsample_channels, not_negative);
  f.optional("shift_channels_start", arguments.shift_channels_start, values);
  f.optional("enable_jpeg_stream_with_quality", arguments.enable_jpeg_stream_with_quality, quality);
  f.optional("jpeg_in_rgb_color_space", arguments.jpeg_in_rgb_color_space);
  f.optional("eom_token_id", arguments.eom_token_id, not_negative);
  f.optional("som_text_token_id", arguments.som_text_token_id, not_negative);
  f.optional("som_image_token_id", arguments.som_image_token_id, not_negative);
}

ClevrArguments read_clevr_arguments(const DatasetRequest& request) {
  ClevrArguments arguments;
  read_fields(request.arguments == nullptr ? "{}" : *request.arguments, "data set clevr", "io.dataset_args",
              [&](Fields& f) { declare_fields(f, arguments); });
  require<ConfigError>(arguments.qiqa_loss_mask.size() == parts_of_sample, "data set clevr: io.dataset_args.qiqa_loss_mask: expected ", parts_of_sample,
                       " weights, got ", arguments.qiqa_loss_mask.size());
  const std::pair<const char*, std::optional<std::int64_t>> tokens[] = {{"eom_token_id", arguments.eom_token_id},
                                                                        {"som_text_token_id", arguments.som_text_token_id},
                                                                        {"som_image_token_id", arguments.som_image_token_id}};
  for (const auto& [name, token] : tokens)
    require<ConfigError>(!token || *token < request.num_tokens, "data set clevr: io.dataset_args.", name, ": expected an id below num_tokens ",
                         request.num_tokens, ", got ", token.value_or(0));
  return arguments;
}

void put_into_bins(Image& image, std::int64_t bins) {
  if (bins + 1 >= 256) return;
  const double width = 255.0 / static_cast<double>(bins);
  const auto border = [&](std::int64_t i) { return i == bins ? 255 : static_cast<double>(i) * width; };
  ByteMap map{};
  std::int64_t bin = 0;
  for (std::size_t value = 0; value < map.size(); ++value) {
    while (bin + 1 < bins && border(bin + 1) <= static_cast<double>(value)) ++bin;
    map[value] = static_cast<std::uint8_t>((border(bin) + border(bin + 1)) / 2);
  }
  map_values(image, map);
}

void shift_values(Image& image, std::int64_t start) {
  std::array<bool, 256> occurs{};
  for (const std::uint8_t value : image.pixels) occurs[value] = true;
  const auto count = std::count(occurs.begin(), occurs.end(), true);
  require<ValueError>(start >= 0 && start + count <= 256, "shift_channels_start: expected at most ", 256 - count, " for ", count,
                      " values per channel, got ", start);
  ByteMap map{};
  std::int64_t next = start;
  for (std::size_t value = 0; value < map.size(); ++value)
    if (occurs[value]) map[value] = static_cast<std::uint8_t>(next++);
  map_values(image, map);
}

std::vector<std::uint8_t> clevr_image_bytes(Image image, const ClevrArguments& a) {
  if (is_set(a.crop_h_perc) && is_set(a.crop_w_perc)) image = with_margins_cut(image, *a.crop_h_perc, *a.crop_w_perc);
  if (is_set(a.resize_to_w) && is_set(a.resize_to_h)) image = resized(image, *a.resize_to_w, *a.resize_to_h);
  if (is_set(a.downsample_channels)) {
    put_into_bins(image, *a.downsample_channels);
    if (is_set(a.shift_channels_start)) shift_values(image, *a.shift_channels_start);
  }
  if (is_set(a.enable_jpeg_stream_with_quality))
    return jpeg_stream(image, static_cast<int>(*a.enable_jpeg_stream_with_quality), a.jpeg_in_rgb_color_space);
  return channels_first(image);
}

Clevr::Clevr(ClevrQuestions questions, std::filesystem::path images, ClevrArguments arguments, const DatasetRequest& request)
    : questions_(std::move(questions)),
      images_(std::move(images)),
      arguments_(std::move(arguments)),
      length_(request.length),
      num_tokens_(request.num_tokens),
      pad_token_id_(request.pad_token_id),
      size_(questions_.size()) {
  if (request.split == Split::Train && request.workers > 1) {
    size_ = questions_.size() / request.workers;
    first_ = size_ * request.worker;
  }
  require<FileError>(size_ > 0, questions_.path().string(), ": expected at least one question for each of ", request.workers, " workers, found ",
                     questions_.size());
  check_answers();
  std::vector<std::int64_t> ids(static_cast<std::size_t>(length_));
  std::vector<float> loss_mask(ids.size());
  Answer answer;
  read(0, index_of_longest(), {.ids = ids, .loss_mask = loss_mask, .answer = &answer});
}

void Clevr::check_answers() const {
  if (!arguments_.answer_categorical) return;
  for (std::int64_t i = 0; i < size_; ++i)
    require<FileError>(clevr_answer_category(question(i).answer) != '\0', name_of_sample(i), ": expected a CLEVR answer (answer_categorical), found ",
                       question(i).answer);
}

std::int64_t Clevr::index_of_longest() const {
  std::int64_t longest = 0;
  std::size_t most = 0;
  for (std::int64_t i = 0; i < size_; ++i) {
    const ClevrQuestion q = question(i);
    const std::size_t bytes = q.question.size() * 2 + q.answer.size();
    if (bytes > most) longest = i;
    most = std::max(most, bytes);
  }
  return longest;
}

std::string Clevr::describe() const { return concat_text(size_, " of ", questions_.size(), " questions of ", questions_.path().string()); }

std::string Clevr::name_of_sample(std::int64_t index) const { return concat_text(questions_.path().string(), ": question ", first_ + index); }

std::string Clevr::answer_text(const ClevrQuestion& question) const {
  if (arguments_.answer_categorical) return std::string(1, clevr_answer_category(question.answer));
  return std::string(question.answer);
}

std::vector<std::int64_t> Clevr::text_ids(std::string_view text) const {
  std::vector<std::int64_t> ids;
  if (arguments_.som_text_token_id) ids.push_back(*arguments_.som_text_token_id);
  append(ids, text);
  if (arguments_.eom_token_id) ids.push_back(*arguments_.eom_token_id);
  return ids;
}

Clevr::Sample Clevr::sample(std::int64_t index) const {
  require<ValueError>(index >= 0 && index < size_, "data: expected a sequence in [0, ", size_, "), got ", index);
  const ClevrQuestion q = question(index);
  const std::filesystem::path file = images_ / q.image;
  Sample sample{text_ids(q.question), {}, text_ids(answer_text(q))};
  if (arguments_.som_image_token_id) sample.image.push_back(*arguments_.som_image_token_id);
  try {
    const std::vector<std::uint8_t> bytes = clevr_image_bytes(read_png(file), arguments_);
    sample.image.insert(sample.image.end(), bytes.begin(), bytes.end());
  } catch (const ValueError& error) {
    throw ValueError(concat_text(file.string(), ": ", error.what()));
  }
  if (arguments_.eom_token_id) sample.image.push_back(*arguments_.eom_token_id);
  return sample;
}

std::string Clevr::fingerprint() const {
  Checksum sum;
  for (std::int64_t i = 0; i < size_; ++i) {
    const ClevrQuestion q = question(i);
    for (const std::string_view text : {q.question, q.answer, q.image}) sum.add(text);
  }
  return concat_text(Dataset::fingerprint(), ", questions ", sum.text());
}

void Clevr::read(std::int64_t, std::int64_t index, const Sequence& out) const {
  const Sample sample = this->sample(index);
  require<ValueError>(sample.count() <= length_, name_of_sample(index), ": expected a sample of at most input_seq_len ", length_, " ids, found ",
                      sample.count());
  const std::vector<std::int64_t>* order[parts_of_sample] = {&sample.question, &sample.image, &sample.question, &sample.answer};
  auto id = out.ids.begin();
  auto weight = out.loss_mask.begin();
  for (std::size_t i = 0; i < parts_of_sample; ++i) {
    id = std::copy(order[i]->begin(), order[i]->end(), id);
    weight = std::fill_n(weight, order[i]->size(), static_cast<float>(arguments_.qiqa_loss_mask[i]));
  }
  if (num_tokens_ < 256) {
    const auto wrong = std::find_if(out.ids.begin(), id, [&](std::int64_t value) { return value >= num_tokens_; });
    require<ValueError>(wrong == id, name_of_sample(index), ": expected ids below num_tokens ", num_tokens_, ", found ", wrong == id ? 0 : *wrong);
  }
  std::fill(id, out.ids.end(), pad_token_id_);
  std::fill(weight, out.loss_mask.end(), 0.0f);
  const std::int64_t count = std::ssize(sample.answer) - arguments_.som_text_token_id.has_value();
  *out.answer = {.kind = std::string(clevr_question_type(question(index).last_function)), .first = sample.count() - count, .count = count};
}

std::unique_ptr<Dataset> make_clevr(const DatasetRequest& request) {
  if (request.split == Split::Test) return nullptr;
  require<ValueError>(request.split != Split::All, "data set clevr: expected the split train or validation, got all");
  ClevrArguments arguments = read_clevr_arguments(request);
  const std::string split = request.split == Split::Train ? "train" : "val";
  ClevrQuestions questions(request.path / "questions" / concat_text("CLEVR_", split, "_questions.json"));
  return std::make_unique<Clevr>(std::move(questions), request.path / "images" / split, std::move(arguments), request);
}

}  // namespace mblm
