// What a model makes of a sequence, for a log.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "mblm/model.h"
#include "train/data/dataset.h"

namespace mblm {

// Ids as one line of ASCII: a character for itself, \" \\ \n \r \t, \x80 for another byte, \{300} for an id that is no byte.
std::string printable_text(std::span<const std::int64_t> ids);

// For a sequence of epoch 0 that `key` chooses, one of
//   `after "PROMPT": "CONTINUATION"`                  its first ids, at most 64, and as many that the model adds at temperature 1
//   `after "PROMPT": "ANSWER", expected "ANSWER"`     where there are answers: all before the answer, and the greedy one
//   `of "MASKED": "FILLED IN"`                        of a masked language model: its first 128 ids, with the likeliest in the gaps
// Of a prompt only the last 64 ids are shown. What is generated is cut so that all forward passes see at most `most_ids` ids in
// all, but it has at least one id. A function of the arguments.
std::string sample_text(const Model& model, const Dataset& dataset, RandomKey key, std::int64_t most_ids);

}  // namespace mblm
