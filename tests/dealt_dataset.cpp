#include "tests/dealt_dataset.h"

#include <random>

namespace mblm::testing {
namespace {

class Dealt final : public Dataset {
 public:
  explicit Dealt(const DatasetRequest& request) : request_(request) {}

  std::int64_t size(std::int64_t) const override { return dealt_batches * dealt_batch / request_.workers; }
  std::int64_t length() const override { return request_.length; }
  SequenceParts parts() const override { return {.loss_mask = true}; }

  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    const std::int64_t batch = index / dealt_batch * request_.workers + request_.worker, sequence = batch * dealt_batch + index % dealt_batch;
    std::mt19937_64 random(static_cast<std::uint64_t>(1000 * epoch + sequence));
    for (std::int64_t& id : out.ids) id = 'a' + static_cast<std::int64_t>(random() % 7);
    const std::size_t without_loss = static_cast<std::size_t>(sequence * 5) % out.loss_mask.size();
    for (std::size_t i = 0; i < out.loss_mask.size(); ++i) out.loss_mask[i] = i < without_loss ? 0.0f : 1.0f;
  }

 private:
  const DatasetRequest request_;
};

}  // namespace

DatasetRegistry dealt_registry() {
  DatasetRegistry registry;
  registry.add("dealt", [](const DatasetRequest& request) { return std::make_unique<Dealt>(request); });
  return registry;
}

}  // namespace mblm::testing
