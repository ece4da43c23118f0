// What users do with a model on a CUDA device: training on CLEVR and of a masked model, checkpoints, hidden states.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "mblm/compress.h"
#include "mblm/mblm.h"
#include "mblm/scorer.h"
#include "tests/clevr_run.h"
#include "tests/cuda/test_device.h"
#include "tests/op_case.h"
#include "tests/temporary_folder.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

const char* const mixed_model =
    "{num_tokens: 60, pad_token_id: 59, hidden_dims: [16, 16], seq_lens: [8, 4], num_layers: [1, 1], train_checkpoint_chunks: null, block: [{block_type: "
    "mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: rope}, {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, "
    "pos_emb_type: fixed}]}";

double validation_loss(RunConfig config, Device device) {
  config.io.run_id = name_of(device.kind);
  config.train.precision = "float32";
  Trainer trainer(config, DatasetRegistry(), {.device = device});
  const TrainingResult result = trainer.run();
  REQUIRE(result.validation_loss.has_value());
  return *result.validation_loss;
}

std::unique_ptr<Model> make_model(Device device) {
  auto model = std::make_unique<Model>(parse_model_config(mixed_model, "test", BlockRegistry()));
  model->allocate(device);
  return model;
}

std::vector<std::int64_t> some_text(std::size_t count) {
  std::vector<std::int64_t> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<std::int64_t>(i * i * 7 + i * 11) % 58;
  return ids;
}

// Three stages, none with a fixed context.
const char* const long_model =
    "{num_tokens: 256, pad_token_id: 0, hidden_dims: [16, 16, 16], seq_lens: [16, 3, 2], num_layers: [1, 1, 1], train_checkpoint_chunks: null, block: "
    "[{block_type: mamba1, d_state: 4, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}, {block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, "
    "headdim: 8, pos_emb_type: null}, {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: null}]}";

Tensor some_ids() {
  std::vector<std::int64_t> ids(54);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i * 11 % 58);
  return from_values<std::int64_t>(Shape{2, 27}, ids);
}

}  // namespace

TEST_CASE("CLEVR trains to the CPU's loss") {
  const TemporaryFolder folder;
  const RunConfig config = read_run_config(prepare_clevr_run(folder), BlockRegistry());
  CHECK(validation_loss(config, test_device()) == doctest::Approx(validation_loss(config, {})).epsilon(1e-3));
}

TEST_CASE("a masked model trains to the CPU's loss") {
  const TemporaryFolder folder;
  for (const char* split : {"train", "validation", "test"}) folder.write(concat_text("text/", split, "/a.txt"), words(900));
  RunConfig config = parse_run_config(
      "params: {input_seq_len: 32, mask_token_id: 256, mblm_config: {num_tokens: 258, pad_token_id: 257, hidden_dims: [16, 16], seq_lens: [8, 4],\n"
      "  num_layers: [1, 1], block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}}}\n"
      "train: {target_elements: 48, target_elements_strategy: batch, batch_size: 4, learning_rate: 0.01, gradient_accumulate_every: 1,\n"
      "  gradient_clipping: 1, masking_proba: 0.2}\n"
      "io: {name_model: masked, output_dir: x, dataset_dir: x, dataset_id: pg19masked, num_models_to_save: 1, validate_amount: 2, log_train_loss_amount: 4}\n",
      "test", BlockRegistry());
  config.io.output_dir = (folder / "runs").string();
  config.io.dataset_dir = (folder / "text").string();
  CHECK(validation_loss(config, test_device()) == doctest::Approx(validation_loss(config, {})).epsilon(1e-3));
}

TEST_CASE("checkpoints of a device are those of the CPU, and hidden states agree") {
  const TemporaryFolder folder;
  const std::unique_ptr<Model> ours = make_model(test_device()), cpu = make_model({});
  ours->initialize(3);
  save_model(*ours, folder / "device.safetensors");
  load_parameters(*cpu, folder / "device.safetensors");
  save_model(*cpu, folder / "cpu.safetensors");
  CHECK(ours->parameters().values().to_vector<float>() == cpu->parameters().values().to_vector<float>());
  load_parameters(*ours, folder / "cpu.safetensors");
  const NoGradScope no_grad;
  CHECK(relative_error(to_host(ours->hidden_states(some_ids())), to_host(cpu->hidden_states(some_ids()))) < 3e-6);
  const std::vector<Tensor> embeddings = ours->embeddings(some_ids()), expected = cpu->embeddings(some_ids());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(relative_error(to_host(embeddings[i]), to_host(expected[i])) < 3e-6);
}

TEST_CASE("generation and scores of a device: the CPU's values, and the same bits for any chunks and company") {
  for (const char* config : {mixed_model, long_model}) {
    for (const DType precision : {DType::Float32, DType::BFloat16}) {
      CAPTURE(config);
      CAPTURE(precision);
      const double bound = precision == DType::Float32 ? 1e-4 : 2e-2;
      Model ours(parse_model_config(config, "test", BlockRegistry())), cpu(parse_model_config(config, "test", BlockRegistry()));
      ours.allocate(test_device(), precision);
      cpu.allocate({}, precision);
      ours.initialize(5);
      cpu.initialize(5);
      const std::vector<std::int64_t> text = some_text(25);
      Scorer on_device(ours), on_cpu(cpu);
      const std::vector<float> scored = on_device.next(text).to_vector_as<float>(), expected = on_cpu.next(text).to_vector_as<float>();
      REQUIRE(scored.size() == expected.size());
      for (std::size_t i = 0; i < scored.size(); ++i) REQUIRE(scored[i] == doctest::Approx(expected[i]).epsilon(bound).scale(1));

      // One byte after the other, beside a row with another text; a row that gets the first bytes at once; one from a saved state.
      const std::size_t width = scored.size() / text.size();
      Generator generator(ours);
      const Generator::Row slow = generator.join(), other = generator.join();
      generator.feed(other, some_text(7));
      const std::vector<Generator::Row> both{slow, other};
      for (std::size_t i = 0; i < text.size(); ++i) {
        CAPTURE(i);
        const std::span<const float> logits = generator.logits(slow);
        REQUIRE(std::equal(logits.begin(), logits.end(), scored.begin() + static_cast<std::ptrdiff_t>(i * width)));
        if (i == 13) {
          const Generator::Row fast = generator.join(), restored = generator.join(generator.snapshot(slow));
          generator.feed(fast, std::span(text).first(13));
          CHECK(std::ranges::equal(generator.logits(fast), logits));
          const std::vector<Generator::Row> all{slow, fast, restored};
          generator.step(all, std::vector<std::int64_t>(3, text[i]));
          CHECK(std::ranges::equal(generator.logits(fast), generator.logits(slow)));
          CHECK(std::ranges::equal(generator.logits(restored), generator.logits(slow)));
          generator.leave(fast);
          generator.leave(restored);
        } else if (i < 20) {
          generator.step(both, std::vector<std::int64_t>{text[i], text[(i + 3) % text.size()]});
        } else {
          generator.step(std::vector<Generator::Row>{slow}, std::vector<std::int64_t>{text[i]});
        }
      }
    }
  }
}

TEST_CASE("a device decompresses what it compressed, in parts too; the CPU refuses it") {
  const TemporaryFolder folder;
  const std::string content = folder / "content", packed = folder / "packed", back = folder / "back";
  write_file(content, words(150));
  Model ours(parse_model_config(long_model, "test", BlockRegistry())), cpu(parse_model_config(long_model, "test", BlockRegistry()));
  ours.allocate(test_device());
  cpu.allocate({});
  ours.initialize(5);
  cpu.initialize(5);
  for (const int streams : {1, 3}) {
    CAPTURE(streams);
    compress_file(ours, content, packed, {.streams = streams});
    decompress_file(ours, packed, back);
    CHECK(read_file(back) == read_file(content));
    CHECK_THROWS_AS(decompress_file(cpu, packed, folder / "refused"), FileError);
    CHECK(!std::filesystem::exists(folder / "refused"));
  }
}

}  // namespace mblm::testing
