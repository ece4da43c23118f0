// Files return from compression with all their bytes, in as many bits as the model's score; damaged and foreign files are refused.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <random>

#include "engine/autograd.h"
#include "engine/build.h"
#include "engine/io/hash.h"
#include "engine/parallel.h"
#include "mblm/compress.h"
#include "mblm/compressed_header.h"
#include "mblm/predict_stream.h"
#include "mblm/sample.h"
#include "tests/temporary_folder.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

// Stages without and with a fixed context.
const char* const models[] = {
    "num_tokens: 256\npad_token_id: 97\nhidden_dims: [16, 16]\nseq_lens: [8, 4]\nnum_layers: [1, 1]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}\n"
    "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}\n",
    "num_tokens: 257\npad_token_id: 256\nhidden_dims: [16, 16]\nseq_lens: [6, 4]\nnum_layers: [1, 1]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n"
    "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n",
    "num_tokens: 256\npad_token_id: 0\nhidden_dims: [16]\nseq_lens: [32]\nnum_layers: [1]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {block_type: mamba1, d_state: 4, d_conv: 4, expand: 2, headdim: 2, pos_emb_type: null}\n",
    "num_tokens: 256\npad_token_id: 0\nhidden_dims: [16, 16, 16]\nseq_lens: [5, 3, 2]\nnum_layers: [1, 1, 1]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}\n"
    "  - {block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: fixed}\n"
    "  - {block_type: transformer, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n",
};

std::unique_ptr<Model> tiny(const std::string& config, std::uint64_t seed = 1, DType precision = DType::Float32) {
  auto model = std::make_unique<Model>(parse_model_config(config, "test", BlockRegistry()));
  model->allocate({}, precision);
  model->initialize(seed);
  return model;
}

std::string noise(std::size_t bytes, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::string text;
  while (text.size() < bytes) text += static_cast<char>(random());
  return text;
}

// Text, then binary data, then one byte again and again.
std::string mixed(std::size_t bytes) { return words(bytes / 3).substr(0, bytes / 3) + noise(bytes / 3) + std::string(bytes - bytes / 3 * 2, 'a'); }

double bits_of(const Model& model, const std::string& file) {
  Scorer scorer(model);
  ByteReader reader(file);
  double bits = 0;
  predict_stream(scorer, reader, [&](const PredictedChunk& chunk) {
    const std::size_t width = chunk.logits.size() / chunk.bytes.size();
    for (std::size_t i = 0; i < chunk.bytes.size(); ++i) bits -= log_probability(chunk.logits.subspan(i * width, width), chunk.bytes[i]) / std::numbers::ln2;
  });
  return bits;
}

struct Files {
  TemporaryFolder folder;
  std::string content = folder / "content", packed = folder / "packed", back = folder / "back";

  // Compresses and decompresses; returns the size of the code, without the header.
  std::int64_t round_trip(const Model& model, const std::string& text, int streams = 1) {
    write_file(content, text);
    CompressOptions options;
    options.streams = streams;
    const CompressionResult result = compress_file(model, content, packed, options);
    CHECK(result.content_bytes == std::ssize(text));
    const std::string file = read_file(packed);
    CHECK(result.file_bytes == std::ssize(file));
    CHECK(decompress_file(model, packed, back).content_bytes == std::ssize(text));
    CHECK(read_file(back) == text);
    CHECK(folder.count() == 3);
    const std::vector<std::uint8_t> start(file.begin(), file.begin() + std::min<std::ptrdiff_t>(std::ssize(file), CompressedHeader::largest_size));
    return result.file_bytes - static_cast<std::int64_t>(CompressedHeader::read(start, file.size(), packed).size());
  }
  std::string refusal(const Model& model) {
    std::filesystem::remove(back);
    const std::string message = message_of<FileError>([&] { decompress_file(model, packed, back); });
    CHECK(folder.count() == (message == "(nothing was thrown)" ? 3 : 2));
    return message;
  }
};

}  // namespace

TEST_CASE("compression: content of every size and kind returns, in the bits of its score") {
  for (const char* config : models) {
    CAPTURE(config);
    const auto model = tiny(config);
    Files files;
    for (const std::size_t size : {0, 1, 2, 23, 24, 25, 48, 777}) {
      CAPTURE(size);
      const std::int64_t code = files.round_trip(*model, mixed(size));
      // A model with ids that are no bytes gives them a part of the probability, which the code does not.
      const double bits = bits_of(*model, files.content), slack = model->config().num_tokens > 256 ? 0.01 : 0.001;
      CHECK(8 * static_cast<double>(code) <= bits * 1.001 + 16);
      CHECK(8 * static_cast<double>(code) >= bits * (1 - slack) - 8);
    }
  }
}

TEST_CASE("compression: bfloat16, several streams, more streams than bytes, and other numbers of threads") {
  const int threads = thread_count();
  for (const char* config : models) {
    CAPTURE(config);
    const auto model = tiny(config, 2, DType::BFloat16);
    Files files;
    for (const int streams : {1, 2, 5, 256}) {
      CAPTURE(streams);
      for (const std::size_t size : {0, 3, 200}) files.round_trip(*model, mixed(size), streams);
    }
    set_thread_count(1);
    compress_file(*model, files.content, files.packed);
    set_thread_count(3);
    decompress_file(*model, files.packed, files.back);
    set_thread_count(threads);
    CHECK(read_file(files.back) == read_file(files.content));
  }
}

TEST_CASE("compression: each byte of a file that changes, each cut and each appended byte is refused; nothing is written") {
  const auto model = tiny(models[0]);
  Files files;
  files.round_trip(*model, mixed(90), 3);
  const std::string intact = read_file(files.packed);
  for (std::size_t at = 0; at < intact.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = intact;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      write_file(files.packed, damaged);
      CAPTURE(at);
      const std::string message = files.refusal(*model);
      CHECK(message.starts_with(files.packed + ": "));
      CHECK(message.find('\n') == std::string::npos);
    }
    write_file(files.packed, intact.substr(0, at));
    CHECK(files.refusal(*model).starts_with(files.packed + ": "));
  }
  write_file(files.packed, intact + '\0');
  CHECK(files.refusal(*model) == files.packed + ": damaged: the file was cut or changed");
  write_file(files.packed, words(500));
  CHECK(files.refusal(*model) == files.packed + ": expected a file that mblm compress wrote, found other content");
  std::string newer = intact;
  newer[4] = 9;
  write_file(files.packed, newer);
  CHECK(files.refusal(*model) == files.packed + ": expected version 1 of compressed files, found 9");
  write_file(files.packed, intact);
  CHECK(files.refusal(*model) == "(nothing was thrown)");
}

TEST_CASE("compression: another model, precision, build, instruction set or device is refused, and the difference is named") {
  const auto model = tiny(models[0]);
  Files files;
  files.round_trip(*model, mixed(50));
  CHECK(files.refusal(*tiny(models[0], 2)).starts_with(files.packed + ": compressed with another model \""));
  CHECK(files.refusal(*tiny(models[0], 1, DType::BFloat16)) == files.packed + ": compressed with another precision \"float32\" instead of \"bfloat16\"");
  // Files of other machines.
  const std::string intact = read_file(files.packed);
  const auto changed = [&](const auto& change) {
    const std::vector<std::uint8_t> start(intact.begin(), intact.end());
    CompressedHeader header = CompressedHeader::read(start, intact.size(), "f");
    const std::size_t size = header.size();
    const std::string code = intact.substr(size);
    change(header.bits);
    Hash codes;
    codes.add(code);
    header.file_hash = header.hash_of_file(codes.short_digest());
    const std::vector<std::uint8_t> bytes = header.bytes();
    write_file(files.packed, std::string(bytes.begin(), bytes.end()) + code);
    return files.refusal(*model);
  };
  CHECK(changed([](PredictionBits&) {}) == "(nothing was thrown)");
  CHECK(changed([](PredictionBits& bits) { ++bits.build; }).starts_with(files.packed + ": compressed with another build \""));
  CHECK(changed([](PredictionBits& bits) { bits.instructions = "mmx"; }) ==
        concat_text(files.packed, ": compressed with another instruction set \"mmx\" instead of \"", instruction_set(), "\""));
  CHECK(changed([](PredictionBits& bits) { bits.device = "cuda GPU"; }) == files.packed + ": compressed with another device \"cuda GPU\" instead of \"cpu\"");
  CHECK(changed([](PredictionBits& bits) {
          bits.device = "cuda GPU";
          bits.instructions = "mmx";
        }).find("; instruction set") != std::string::npos);
}

TEST_CASE("compression: content that does not decode to itself is refused") {
  const auto model = tiny(models[0]);
  Files files;
  files.round_trip(*model, mixed(50));
  // An intact file whose content hash is another: as if the model had predicted with other bits.
  const std::string intact = read_file(files.packed);
  CompressedHeader header = CompressedHeader::read(std::vector<std::uint8_t>(intact.begin(), intact.end()), intact.size(), "f");
  const std::string code = intact.substr(header.size());
  ++header.content_hash;
  Hash codes;
  codes.add(code);
  header.file_hash = header.hash_of_file(codes.short_digest());
  const std::vector<std::uint8_t> bytes = header.bytes();
  write_file(files.packed, std::string(bytes.begin(), bytes.end()) + code);
  CHECK(files.refusal(*model).find("the decoded content differs from the original") != std::string::npos);
}

TEST_CASE("compression: wrong arguments are refused, and an interrupted compression leaves nothing") {
  const auto model = tiny(models[0]);
  Files files;
  write_file(files.content, mixed(50));
  CompressOptions options;
  for (const int streams : {0, -1, 257}) {
    options.streams = streams;
    CHECK_THROWS_AS(compress_file(*model, files.content, files.packed, options), ValueError);
  }
  CHECK_THROWS_AS(compress_file(*model, files.folder / "missing", files.packed), FileError);
  CHECK_THROWS_AS(compress_file(*model, files.folder.path(), files.packed), FileError);
  CHECK_THROWS_AS(compress_file(*model, files.content, files.folder / "missing/packed"), FileError);
  CHECK_THROWS_AS(decompress_file(*model, files.folder.path(), files.back), FileError);
  CHECK_THROWS_AS(decompress_file(*model, "/dev/null", files.back), FileError);
  struct Stop {};
  const auto stop = [](std::int64_t, std::optional<std::int64_t>) { throw Stop(); };
  CHECK_THROWS_AS(compress_file(*model, files.content, files.packed, {}, stop), Stop);
  CHECK(files.folder.count() == 1);
  compress_file(*model, files.content, files.packed);
  CHECK_THROWS_AS(decompress_file(*model, files.packed, files.back, stop), Stop);
  CHECK(files.folder.count() == 2);
  // A model of fewer ids.
  const auto few = tiny(replaced(models[0], "num_tokens: 256", "num_tokens: 100"));
  write_file(files.content, words(60) + "\xc8");
  CHECK(message_of<FileError>([&] { compress_file(*few, files.content, files.packed); }) ==
        concat_text(files.content, ": offset ", words(60).find_first_of("defghijklmnopqrstuvwxyz"), ": expected a byte below 100, the number of ids of the model, found ",
                    static_cast<int>(words(60)[words(60).find_first_of("defghijklmnopqrstuvwxyz")])));
}

TEST_CASE("predictions of a stream: the mean over the bytes is the loss of the model, window by window") {
  for (const char* config : models) {
    CAPTURE(config);
    const auto model = tiny(config);
    const TemporaryFolder folder;
    const std::int64_t context = model->config().context();
    std::string text = words(static_cast<std::size_t>(context + 7)).substr(0, static_cast<std::size_t>(context + 7));
    for (char& c : text)
      if (c == 'a') c = 'b';  // the loss ignores a padding id, the score does not
    const std::string file = folder.write("text", text);
    const auto loss_bits = [&](std::size_t begin, std::size_t end) {
      const NoGradScope no_grad;
      std::vector<std::int64_t> ids;
      for (std::size_t i = begin; i < end; ++i) ids.push_back(static_cast<unsigned char>(text[i]));
      return model->loss(from_values(Shape{1, std::ssize(ids)}, ids)).loss.item() * static_cast<double>(ids.size()) / std::numbers::ln2;
    };
    const auto window = static_cast<std::size_t>(context);
    const double expected = model->config().fixed_context() ? loss_bits(0, window) + loss_bits(window, text.size()) : loss_bits(0, text.size());
    CHECK(bits_of(*model, file) == doctest::Approx(expected).epsilon(1e-5));
    // A byte equal to the padding id counts like any other.
    const std::string padded = folder.write("padded", std::string(3, static_cast<char>(model->config().pad_token_id)));
    CHECK(bits_of(*model, padded) > 1);
  }
}

}  // namespace mblm::testing
