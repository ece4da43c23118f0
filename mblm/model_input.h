// The input of a model: ids, masks and targets, checked and padded.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/tensor.h"
#include "mblm/config/config.h"

namespace mblm {

// Label id that the loss ignores.
inline constexpr std::int64_t no_label = -100;

// The ids of bytes, 0 to 255. (The values of char are negative beyond ASCII on most machines.)
std::vector<std::int64_t> ids_of(std::string_view bytes);

// B sequences of L ids, in P tokens of stage 0. prepare_input creates it on the CPU, then it is moved to the model's device, so that
// a forward pass needs no checks and reads nothing back.
struct ModelInput {
  Tensor ids;                            // (B, P, P_1, ..., P_{N-1}) int64, padded on the right to whole tokens of stage 0
  std::int64_t length = 0;               // L, without padding
  bool is_nested = false;                // the caller gave ids in nested shape
  std::vector<Tensor> token_masks = {};  // masked models: per stage (sequences, tokens) uint8, see stage_masks; empty: attend to all
  // (B, L) int64: the ids. For a masked model the labels, with no_label also where the token mask hides the id; undefined
  // without labels.
  Tensor targets = {};
  Tensor loss_mask = {};  // (B, L) floating; undefined means ones
};

// All arguments are on the CPU. ids: int64, (B, L) or nested (B, P, P_1, ..., P_{N-1}). The other tensors have the shape of ids.
// token_mask, for masked models: uint8, 1 for the bytes to attend to; undefined means all. labels, for masked models: int64, ids or
// no_label. loss_mask: floating; undefined means ones. Throws ValueError for ids and labels outside [0, V), for an input longer
// than a fixed context, and for a token mask or labels if the model is not masked; ShapeError; DTypeError.
ModelInput prepare_input(const ModelConfig& config, const Tensor& ids, const Tensor& token_mask = {}, const Tensor& labels = {},
                         const Tensor& loss_mask = {});

// Moves the input to a device and converts the loss mask to `values_dtype`.
ModelInput to_device(const ModelInput& input, Device device, DType values_dtype);

// Reduces a token mask to one mask per stage. token_mask: on the CPU, uint8, of `shape` (B, P, P_1, ..., P_{N-1}), padded to whole
// tokens of stage 0. Returns per stage (sequences, tokens): 1 where any or all (params.mask_reduce_strat) of the token's bytes are
// in the mask. Returns an empty vector for an undefined mask and for an empty input. Throws as prepare_input.
std::vector<Tensor> stage_masks(const ModelConfig& config, const Tensor& token_mask, const Shape& shape);

}  // namespace mblm
