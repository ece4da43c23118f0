// NCCL with one worker on a real GPU: opening, sums and broadcasts. tools/gpu-check runs it.
#include <doctest/doctest.h>

#include "engine/collective.h"
#include "engine/device.h"
#include "engine/error.h"
#include "tests/cuda/test_device.h"

namespace mblm::testing {

TEST_CASE("NCCL opens, and one worker's sum and broadcast keep its values") {
  const Device device = test_device();
  std::string note;
  const std::unique_ptr<Collective> nccl = runtime_of(device.kind).open_collective(
      device.index, 0, 1, [](const std::string& bytes) { return std::vector<std::string>{bytes}; }, [&](const std::string& text) { note = text; });
  CAPTURE(note);
  REQUIRE(nccl != nullptr);
  CHECK(nccl->rank() == 0);
  CHECK(nccl->size() == 1);
  std::vector<float> values(100'003);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000) * 0.37f;
  Tensor x = from_values<float>(Shape{static_cast<std::int64_t>(values.size())}, values, device);
  nccl->sum(x);
  CHECK(x.to_vector<float>() == values);
  nccl->broadcast(x);
  CHECK(x.to_vector<float>() == values);
  Tensor ids = from_values<std::int64_t>(Shape{3}, {1, 2, 3}, device);
  CHECK_THROWS_AS(nccl->sum(ids), DTypeError);
  nccl->broadcast(ids);
  CHECK(ids.to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 2, 3});
}

}  // namespace mblm::testing
