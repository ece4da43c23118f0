// Batches read in advance by threads.
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/small_model.h"
#include "tests/temporary_folder.h"
#include "train/data/prefetch.h"

namespace mblm::testing {
namespace {

// Sequence i is (epoch, i). Reading takes a time that differs between sequences.
struct Slow : Dataset {
  std::int64_t bad_index = -1;
  mutable std::atomic<int> reads = 0;

  std::int64_t size(std::int64_t) const override { return 1000; }
  std::int64_t length() const override { return 2; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    ++reads;
    std::this_thread::sleep_for(std::chrono::microseconds(index * 7919 % 300));
    require<FileError>(index != bad_index, "sequence ", index, " is damaged");
    out.ids[0] = epoch;
    out.ids[1] = index;
  }
};

// A model with patches of three bytes and a vocabulary for the sequences.
ModelConfig model(std::int64_t num_tokens = 1000) {
  ModelConfig config = config_of("[1, 3]", "[8, 8]", "[1, 1]", "{attn_head_dims: 8, attn_num_heads: 1, attn_use_rot_embs: true}");
  config.num_tokens = num_tokens;
  return config;
}

// Places of batches of 3 sequences, 4 batches per epoch.
Prefetcher::NextPlace places(std::int64_t batches, const std::optional<RandomKey>& shuffle = {}) {
  return [i = std::int64_t{0}, batches, shuffle]() mutable -> std::optional<BatchPlace> {
    if (i == batches) return {};
    const BatchPlace place{i / 4, i % 4 * 3, 3, shuffle};
    ++i;
    return place;
  };
}

std::vector<std::int64_t> ids_of(const Batch& batch) { return batch.ids.to_vector<std::int64_t>(); }

}  // namespace

TEST_CASE("batches are in the order of their places for any number of threads") {
  const Slow dataset;
  for (const std::optional<RandomKey>& shuffle : {std::optional<RandomKey>(), std::optional(RandomKey{7, site_of("shuffle"), 1})}) {
    for (const int threads : {1, 2, 3, 8}) {
      CAPTURE(threads);
      Prefetcher batches(dataset, model(), places(50, shuffle), threads);
      const Prefetcher::NextPlace next_place = places(50, shuffle);
      while (const std::optional<BatchPlace> place = next_place()) {
        const std::optional<Batch> batch = batches.next();
        REQUIRE(batch.has_value());
        REQUIRE(ids_of(*batch) == ids_of(read_batch(dataset, *place)));
      }
      CHECK_FALSE(batches.next().has_value());
      CHECK_FALSE(batches.next().has_value());
    }
  }
}

TEST_CASE("batches are prepared for the model, and invalid ids are an error in place of their batch") {
  const Slow dataset;
  Prefetcher batches(dataset, model(5), places(50), 2);
  const Batch first = batches.next().value();
  CHECK(first.input.ids.shape() == Shape{3, 1, 3});
  CHECK(first.input.ids.to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 0, 39, 0, 1, 39, 0, 2, 39});
  CHECK(first.input.targets.to_vector<std::int64_t>() == ids_of(first));
  CHECK(message_of<ValueError>([&] { batches.next(); }) == "input_ids: expected ids in [0, 5), got 5 at position 5");
  CHECK_FALSE(batches.next().has_value());
}

TEST_CASE("without places there are no batches") {
  const Slow dataset;
  Prefetcher batches(dataset, model(), places(0), 3);
  CHECK_FALSE(batches.next().has_value());
  CHECK_THROWS_AS(Prefetcher(dataset, model(), places(1), 0), ValueError);
}

TEST_CASE("an error of a thread is thrown in place of its batch and ends the batches") {
  Slow dataset;
  dataset.bad_index = 10;
  for (const int threads : {1, 2, 8}) {
    CAPTURE(threads);
    Prefetcher batches(dataset, model(), places(50), threads);
    for (std::int64_t i = 0; i < 3; ++i) REQUIRE(ids_of(*batches.next())[1] == i * 3);
    CHECK(message_of<FileError>([&] { batches.next(); }) == "sequence 10 is damaged");
    CHECK_FALSE(batches.next().has_value());
  }
}

TEST_CASE("an error in the next place is thrown in place of its batch") {
  const Slow dataset;
  Prefetcher batches(dataset, model(), [i = std::int64_t{0}]() mutable -> std::optional<BatchPlace> {
    require<ValueError>(i < 5, "no place after ", i);
    return BatchPlace{0, i++, 1};
  }, 4);
  for (std::int64_t i = 0; i < 5; ++i) CHECK(ids_of(*batches.next())[1] == i);
  CHECK(message_of<ValueError>([&] { batches.next(); }) == "no place after 5");
  CHECK_FALSE(batches.next().has_value());
}

TEST_CASE("threads read at most two batches each in advance, and end with the prefetcher") {
  const Slow dataset;
  for (const int taken : {0, 1, 5}) {
    const int before = dataset.reads;
    {
      Prefetcher batches(dataset, model(), places(1000), 3);
      for (int i = 0; i < taken; ++i) batches.next();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    CHECK(dataset.reads - before <= (taken + 6) * 3);
    CHECK(dataset.reads - before >= taken * 3);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers need address space
TEST_CASE("without threads, batches are read when they are taken") {
  Slow dataset;
  rlimit unlimited{};
  REQUIRE(getrlimit(RLIMIT_AS, &unlimited) == 0);
  const rlimit none{1 << 20, unlimited.rlim_max};
  // The C library keeps the stacks of ended threads for new ones, which then need no memory: larger stacks always do.
  pthread_attr_t before, large;
  REQUIRE(pthread_getattr_default_np(&before) == 0);
  REQUIRE(pthread_getattr_default_np(&large) == 0);
  REQUIRE(pthread_attr_setstacksize(&large, std::size_t{1} << 28) == 0);
  const auto prefetcher = [&](std::int64_t count) {
    pthread_setattr_default_np(&large);
    setrlimit(RLIMIT_AS, &none);
    auto batches = std::make_unique<Prefetcher>(dataset, model(), places(count), 2);
    setrlimit(RLIMIT_AS, &unlimited);
    pthread_setattr_default_np(&before);
    return batches;
  };
  const auto batches = prefetcher(5);
  CHECK(dataset.reads == 0);
  const Prefetcher::NextPlace next_place = places(5);
  while (const std::optional<BatchPlace> place = next_place()) REQUIRE(ids_of(batches->next().value()) == ids_of(read_batch(dataset, *place)));
  CHECK_FALSE(batches->next());
  dataset.bad_index = 4;
  const auto failing = prefetcher(5);
  CHECK(failing->next());
  CHECK_THROWS_AS(failing->next(), FileError);
  CHECK_FALSE(failing->next());
}
#endif

}  // namespace mblm::testing
