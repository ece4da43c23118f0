// Sample output of a model, for logs.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "mblm/model.h"
#include "train/data/dataset.h"

namespace mblm {

// Formats ids as one line of ASCII: printable characters, the escapes \" \\ \n \r \t, \x80 for other bytes, \{300} for ids above 255.
std::string printable_text(std::span<const std::int64_t> ids);

// Selects a sequence of epoch 0 by `key` and returns one of
//   `after "PROMPT": "CONTINUATION"`               the first half of the sequence, at most 64 ids, and as many ids at temperature 1
//   `after "PROMPT": "ANSWER", expected "ANSWER"`  for data sets with answers: the ids before the answer, continued greedily
//   `of "MASKED": "FILLED IN"`                     for masked language models: the first 128 ids with the most probable ids filled in
// Shows the last 64 ids of a prompt. Generates at least one id; otherwise limits the number of new ids so that all forward passes
// together process at most `most_ids` ids. The result depends only on the arguments.
std::string sample_text(const Model& model, const Dataset& dataset, RandomKey key, std::int64_t most_ids);

}  // namespace mblm
