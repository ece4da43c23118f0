// What a model computes from: ids, masks and targets, checked and complete.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"
#include "mblm/config/config.h"

namespace mblm {

// Stands in labels for: nothing to tell here.
inline constexpr std::int64_t no_label = -100;

// Made on the CPU by prepare_input, then moved whole to the model's device: a forward pass checks nothing and reads nothing back.
// B sequences of L ids, in P tokens of stage 0.
struct ModelInput {
  Tensor ids;                            // (B, P, P_1, ..., P_{N-1}) int64: the input, padded on the right to whole tokens of stage 0
  std::int64_t length = 0;               // L, without that padding
  bool is_nested = false;                // the input came in the shape of ids
  std::vector<Tensor> token_masks = {};  // of a masked model: per stage (sequences, tokens) uint8, see stage_masks; none: all are attended to
  // (B, L) int64: the ids themselves; of a masked model the labels, no_label also where the token mask hides the id, and
  // undefined where there are no labels.
  Tensor targets = {};
  Tensor loss_mask = {};  // (B, L) floating; undefined for ones
};

// All arguments are on the CPU. ids int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}); the others are shaped like them:
// token_mask uint8, 1 for what a masked model attends to, undefined for all; labels int64, ids or no_label, for masked models;
// loss_mask floating, undefined for ones. Throws ValueError for ids and labels outside [0, V), for an input longer than a fixed context, and
// for a token mask or labels without a masked model; ShapeError; DTypeError.
ModelInput prepare_input(const ModelConfig& config, const Tensor& ids, const Tensor& token_mask = {}, const Tensor& labels = {},
                         const Tensor& loss_mask = {});

// The input on a device, with the loss mask in that element type.
ModelInput to_device(const ModelInput& input, Device device, DType values_dtype);

// token_mask on the CPU, one byte per id of whole tokens of stage 0, of that shape (B, P, P_1, ..., P_{N-1}). Per stage
// (sequences, tokens): 1 where any, or all (params.mask_reduce_strat), of the token's bytes are in the mask. None for an
// undefined mask and for no ids. Throws as prepare_input.
std::vector<Tensor> stage_masks(const ModelConfig& config, const Tensor& token_mask, const Shape& shape);

}  // namespace mblm
