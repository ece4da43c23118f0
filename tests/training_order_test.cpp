// What a run reads and writes, compared with values computed here: the order of sequences, the losses and labels of rows, mean gradients,
// and the random numbers of dropout. The learning rate is so small that no parameter changes, so each loss is that of the initial model on
// the sequences of its batch and shows which ones they were.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>

#include "engine/autograd.h"
#include "mblm/checkpoint.h"
#include "ops/step_scalars.h"
#include "tests/csv_rows.h"
#include "tests/tiny_run.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace mblm::testing {
namespace {

using Indices = std::vector<std::int64_t>;

constexpr std::int64_t length = 32, batch_size = 2, train_sequences = 7, valid_sequences = 5;
constexpr std::int64_t batches = train_sequences / batch_size;  // of an epoch; one sequence is left over
constexpr std::int64_t seed = 5;

// Random ids that differ between sequences, and between the first epoch and the others.
class Numbered : public Dataset {
 public:
  explicit Numbered(Split split) : split_(split) {}
  std::int64_t size(std::int64_t) const override { return split_ == Split::Train ? train_sequences : valid_sequences; }
  std::int64_t length() const override { return testing::length; }
  std::string fingerprint() const override { return "numbered"; }  // reads nothing
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    const RandomKey key{static_cast<std::uint64_t>(index), static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(split_)};
    for (std::size_t i = 0; i < out.ids.size(); ++i) out.ids[i] = 1 + static_cast<std::int64_t>(random_word(key, i) % 255);
  }

 private:
  Split split_;
};

// The sequences that were read, by split and epoch, in ascending order: threads read ahead, so their own order has no meaning.
struct Reads {
  std::mutex mutex;
  std::map<std::pair<Split, std::int64_t>, Indices> indices;

  Indices of(Split split, std::int64_t epoch) {
    Indices sorted = indices[{split, epoch}];
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
};

class Recorded final : public Numbered {
 public:
  Recorded(Split split, Reads& reads) : Numbered(split), split_(split), reads_(reads) {}
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    Numbered::read(epoch, index, out);
    const std::lock_guard lock(reads_.mutex);
    reads_.indices[{split_, epoch}].push_back(index);
  }

 private:
  Split split_;
  Reads& reads_;
};

DatasetRegistry recorded_registry(Reads& reads) {
  DatasetRegistry registry;
  registry.add("recorded", [&reads](const DatasetRequest& request) -> std::unique_ptr<Dataset> {
    if (request.split == Split::Test) return nullptr;
    return std::make_unique<Recorded>(request.split, reads);
  });
  return registry;
}

struct Run {
  TemporaryFolder folder;
  Reads reads;
  RunConfig config;

  explicit Run(Overrides more = {}) {
    const std::string file = prepare_tiny_run(folder);
    more.insert(more.begin(), {"io.dataset_id=recorded", "train.batch_size=2", "train.learning_rate=1e-30", "train.target_elements=24", "train.seed=5",
                               "io.log_train_loss_amount=1000", "io.validate_amount=0", "train.gradient_accumulate_every=2"});
    config = read_run_config(file, BlockRegistry(), more);
  }
  TrainingResult train() { return Trainer(config, recorded_registry(reads)).run(); }
  std::vector<Row> rows(const std::string& kind) const { return rows_of(folder / "runs/tiny_1/loss.csv", kind); }
};

std::unique_ptr<Model> initial_model(const RunConfig& config, std::uint64_t model_seed = seed) {
  auto model = std::make_unique<Model>(config.model);
  model->allocate();
  model->initialize(model_seed);
  return model;
}

// The sequences `indices` of an epoch, (B, L).
Tensor ids_of(Split split, std::int64_t epoch, const Indices& indices) {
  const Numbered dataset(split);
  std::vector<std::int64_t> ids;
  for (const std::int64_t index : indices) {
    std::vector<std::int64_t> row(static_cast<std::size_t>(length));
    dataset.read(epoch, index, {.ids = row});
    ids.insert(ids.end(), row.begin(), row.end());
  }
  return from_values<std::int64_t>(Shape{std::ssize(indices), length}, ids);
}

double loss_of(const Model& model, const Tensor& ids) {
  const NoGradScope no_grad;
  return model.loss(ids).loss.item();
}

// Sequences `batch` of an epoch shuffled by `key`, or in order.
Indices batch_indices(std::int64_t batch, std::int64_t sequences, const std::optional<RandomKey>& key = {}) {
  Indices indices;
  for (std::int64_t i = batch * batch_size; i < std::min(sequences, (batch + 1) * batch_size); ++i)
    indices.push_back(key ? static_cast<std::int64_t>(random_permutation(*key, static_cast<std::uint64_t>(sequences), static_cast<std::uint64_t>(i))) : i);
  return indices;
}

RandomKey training_key(std::int64_t epoch) { return {static_cast<std::uint64_t>(seed), site_of("shuffle"), static_cast<std::uint32_t>(epoch)}; }
RandomKey validation_key(std::int64_t done) { return {static_cast<std::uint64_t>(seed), site_of("shuffle_eval"), static_cast<std::uint32_t>(done)}; }

bool is_near(double a, double b, double relative = 1e-5) { return std::abs(a - b) <= relative * std::abs(b); }

}  // namespace

TEST_CASE("each epoch trains on other batches of distinct sequences, in the order of its own shuffle or of the data") {
  for (const bool shuffled : {true, false}) {
    CAPTURE(shuffled);
    Run run({concat_text("train.shuffle_train=", shuffled ? "true" : "false")});
    const TrainingResult result = run.train();
    const auto model = initial_model(run.config);
    const std::vector<Row> rows = run.rows("train");
    REQUIRE(rows.size() == 12);
    std::set<Indices> orders;
    std::set<std::string> losses;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      Indices all;
      for (std::int64_t batch = 0; batch < batches; ++batch) {
        const Row& row = rows[static_cast<std::size_t>(epoch * batches + batch)];
        CAPTURE(epoch);
        CAPTURE(batch);
        const Indices indices = batch_indices(batch, train_sequences, shuffled ? std::optional(training_key(epoch)) : std::nullopt);
        all.insert(all.end(), indices.begin(), indices.end());
        CHECK(row.at("epoch") == std::to_string(epoch));
        CHECK(row.at("batch") == std::to_string(batch));
        CHECK(row.at("cum_batch") == std::to_string(epoch * batches + batch));
        CHECK(row.at("elements_seen") == std::to_string((epoch * batches + batch + 1) * batch_size));
        CHECK(is_near(std::stod(row.at("loss")), loss_of(*model, ids_of(Split::Train, epoch, indices))));
        losses.insert(row.at("loss"));
      }
      orders.insert(all);
      std::sort(all.begin(), all.end());
      CHECK(std::set<std::int64_t>(all.begin(), all.end()).size() == all.size());
      CHECK(run.reads.of(Split::Train, epoch) == all);  // nothing else, and nothing twice
    }
    CHECK(losses.size() == 12);  // so a loss shows its batch
    CHECK(orders.size() == (shuffled ? 4 : 1));
    CHECK(result.state.epoch == 4);
    CHECK(result.state.batch == 0);
  }
}

TEST_CASE("validations have the labels of the last micro-step and an order of their own") {
  // The first validation is after the first batch of an epoch, the last one after the last; max_eval_steps leaves one sequence out.
  Run run({"train.shuffle_eval=true", "train.max_eval_steps=2", "io.validate_amount=4"});
  run.train();
  const auto model = initial_model(run.config);
  const std::vector<Row> rows = run.rows("valid");
  const std::vector<std::int64_t> points{0, 3, 7, 11};  // i 11 / 3
  REQUIRE(rows.size() == points.size());
  Indices all;
  std::set<Indices> orders;
  for (std::size_t i = 0; i < points.size(); ++i) {
    CAPTURE(i);
    const std::int64_t point = points[i], done = point + 1;
    double sum = 0;
    Indices order;
    for (std::int64_t batch = 0; batch < 2; ++batch) {
      const Indices indices = batch_indices(batch, valid_sequences, validation_key(done));
      sum += loss_of(*model, ids_of(Split::Validation, 0, indices));
      order.insert(order.end(), indices.begin(), indices.end());
    }
    all.insert(all.end(), order.begin(), order.end());
    orders.insert(order);
    CHECK(rows[i].at("epoch") == std::to_string(point / batches));
    CHECK(rows[i].at("batch") == std::to_string(point % batches));
    CHECK(rows[i].at("cum_batch") == std::to_string(point));
    CHECK(rows[i].at("elements_seen") == std::to_string(done * batch_size));
    CHECK(is_near(std::stod(rows[i].at("loss")), sum / 2));
  }
  CHECK(orders.size() >= 3);
  std::sort(all.begin(), all.end());
  Indices read = run.reads.of(Split::Validation, 0);
  for (const std::int64_t index : all) CHECK(std::count(read.begin(), read.end(), index) >= std::count(all.begin(), all.end(), index));
}

TEST_CASE("the mean gradient of a row is that of the last optimizer step before it") {
  Run run({"io.log_train_loss_amount=5", "train.gradient_clipping=0.5"});
  run.train();
  const std::vector<Row> rows = run.rows("train");
  const std::vector<std::int64_t> points{0, 2, 5, 8, 11};  // i 11 / 4
  REQUIRE(rows.size() == points.size());
  CHECK(rows[0].at("avg_grad") == "-1");
  CHECK(rows[0].at("avg_grad_clipped") == "-1");
  std::set<std::string> values;
  for (std::size_t i = 1; i < points.size(); ++i) {
    CAPTURE(i);
    const std::int64_t last = points[i] / 2 * 2;  // micro-steps [last - 2, last) are the last step
    const auto model = initial_model(run.config);
    for (std::int64_t m = last - 2; m < last; ++m)
      backward(model->loss(ids_of(Split::Train, m / batches, batch_indices(m % batches, train_sequences))).loss, {}, 0.5);
    const double mean = mean_gradient(model->parameters());
    double square = 0;
    for (const float g : model->parameters().gradients().to_vector<float>()) square += static_cast<double>(g) * static_cast<double>(g);
    REQUIRE(std::sqrt(square) > 0.5);
    CHECK(is_near(std::stod(rows[i].at("avg_grad")), mean, 1e-3));
    CHECK(is_near(std::stod(rows[i].at("avg_grad_clipped")), mean * 0.5 / (std::sqrt(square) + 1e-6), 1e-3));
    CHECK(rows[i].at("cum_batch") == std::to_string(points[i]));
    values.insert(rows[i].at("avg_grad"));
  }
  CHECK(values.size() == 4);
}

TEST_CASE("a run that starts from a checkpoint continues its data, labels and dropout") {
  Run run({"params.block[1].ff_dropout=0.4", "params.block[1].attn_dropout=0.2", "train.shuffle_train=true", "train.target_elements=12"});
  const auto model = initial_model(run.config, 9);
  const std::filesystem::path start = run.folder / "start.safetensors";
  save_model(*model, start);
  ResumeConfig& resume = run.config.resume.emplace();
  resume.checkpoint_file = start.string();
  resume.next_epoch_index = 1;
  resume.next_batch_index = 2;
  const TrainingResult result = run.train();
  CHECK(result.state.first_batch == batches + 2);
  const std::vector<Row> rows = run.rows("train");
  REQUIRE(rows.size() == 6);
  const NoGradScope no_grad;
  for (std::int64_t m = 0; m < 6; ++m) {
    CAPTURE(m);
    const std::int64_t place = batches + 2 + m, epoch = place / batches, batch = place % batches;
    const Row& row = rows[static_cast<std::size_t>(m)];
    CHECK(row.at("epoch") == std::to_string(epoch));
    CHECK(row.at("batch") == std::to_string(batch));
    CHECK(row.at("cum_batch") == std::to_string(place));
    const Tensor ids = ids_of(Split::Train, epoch, batch_indices(batch, train_sequences, training_key(epoch)));
    const auto loss_at = [&](std::int64_t micro_step) {
      const Tensor scalars = make_step_scalars({}, {.micro_step = static_cast<double>(micro_step)});
      return model->loss(ids, {}, {.training = true, .seed = static_cast<std::uint64_t>(seed), .step_scalars = scalars}).loss.item();
    };
    CHECK(is_near(std::stod(row.at("loss")), loss_at(place)));
    CHECK_FALSE(is_near(std::stod(row.at("loss")), loss_at(m)));
  }
}

}  // namespace mblm::testing
