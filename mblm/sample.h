// Chooses the next id from its logits (spec: "Generation").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mblm {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy; among equal logits the lowest id is chosen
  std::int64_t top_k = 0;         // 0: all
  double top_p = 1;               // keeps the smallest set of ids with at least this probability
  double min_p = 0;               // drops ids with less than this fraction of the highest probability
  double repetition_penalty = 1;  // divides positive logits and multiplies negative logits of ids in the sequence
  std::vector<std::int64_t> banned{};  // ids that are never chosen
  std::vector<std::int64_t> stop{};    // ids that end the sequence; the result includes the id
  std::uint64_t seed = 0;
};

// Throws ValueError for an option out of range and for ids outside [0, vocabulary).
void check_sampling(const SamplingOptions& options, std::int64_t vocabulary);

// Samples one sequence.
class Sampler {
 public:
  // Throws ValueError (check_sampling). Random numbers are a function of (seed, position, sequence_index).
  Sampler(SamplingOptions options, std::int64_t vocabulary, std::int64_t sequence_index = 0);

  // Adds ids to the sequence, for the repetition penalty. Ids outside the vocabulary are ignored.
  void see(std::span<const std::int64_t> ids);
  // Chooses the id at `position` from logits (V), at least one and at most the vocabulary, and adds it to the sequence. Throws ValueError
  // if a logit is NaN and if every id is banned.
  std::int64_t choose(std::span<const float> logits, std::int64_t position);
  bool stops_at(std::int64_t id) const;

 private:
  void adjust(std::span<const float> logits);
  std::int64_t draw(double uniform);

  const SamplingOptions options_;
  const std::int64_t sequence_index_;
  std::vector<bool> seen_, banned_;
  // Logits after penalty and bans, and the ids from the largest down; used by choose() only.
  struct Candidate {
    double value;
    std::int64_t id;
  };
  std::vector<Candidate> candidates_;
};

// log softmax(logits)[id], in nats: the probability that the model gives to an id, without sampling options.
double log_probability(std::span<const float> logits, std::int64_t id);

// Chooses the id at `position` of a sequence (Sampler).
std::int64_t sample(std::span<const float> logits, std::span<const std::int64_t> sequence, const SamplingOptions& options, std::int64_t position,
                    std::int64_t sequence_index = 0);

}  // namespace mblm
