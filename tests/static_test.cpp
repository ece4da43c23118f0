// A program that contains the library instead of opening it.
#include <doctest/doctest.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "engine/kernel.h"
#include "train/step_runner.h"

namespace mblm::testing {

TEST_CASE("a program linked with the static library contains all kernels") {
  const auto is_mblm = [](dl_phdr_info* info, std::size_t, void*) { return std::strstr(info->dlpi_name, "libmblm") != nullptr ? 1 : 0; };
  REQUIRE(dl_iterate_phdr(is_mblm, nullptr) == 0);  // the shared library is not loaded
  const std::vector<const KernelSlot*> slots = kernel_slots();
  CHECK(slots.size() > 50);
  CHECK(std::all_of(slots.begin(), slots.end(), [](const KernelSlot* slot) { return slot->has(DeviceKind::Cpu); }));
}

TEST_CASE("a program linked with the static library trains") {
  Model model(parse_model_config("num_tokens: 20\npad_token_id: 19\nhidden_dims: [16, 16]\nseq_lens: [4, 4]\nnum_layers: [1, 1]\n"
                                 "train_checkpoint_chunks: null\nblock:\n"
                                 "  - {d_state: 16, d_conv: 4, expand: 2, headdim: 16, pos_emb_type: null}\n"
                                 "  - {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n",
                                 "test", BlockRegistry()));
  model.allocate();
  model.initialize(1);
  StepRunner runner(model, 1);
  const ModelInput input = prepare_input(model.config(), from_values<std::int64_t>(Shape{1, 8}, {1, 2, 3, 4, 1, 2, 3, 4}));
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    last = runner.micro_step(input, {.training = true}).item();
    if (step == 0) first = last;
    runner.optimizer_step(0.01);
  }
  CHECK(last < 0.5 * first);
}

}  // namespace mblm::testing
