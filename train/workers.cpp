#include "train/workers.h"

#include <new>

#include "engine/staged_collective.h"

namespace mblm {
namespace {

// The first byte of a message.
constexpr char content = 'c', failure = 'f';

bool is_failure(const std::string& part) { return part.front() == failure; }

// Returns the error of the first failed worker. Omits the prefix for rank 0, which covers errors of all workers and of the run folder.
std::string failure_text(const std::vector<std::string>& parts) {
  const auto first = std::find_if(parts.begin(), parts.end(), is_failure);
  return concat_text(first == parts.begin() ? "" : concat_text("worker ", first - parts.begin(), ": "), first->substr(1));
}

}  // namespace

std::vector<std::string> Workers::exchange(const std::string& bytes) const {
  if (is_alone()) return {bytes};
  std::vector<std::string> parts = communicator_->gather(content + bytes);
  if (std::any_of(parts.begin(), parts.end(), is_failure)) throw WorkerError(failure_text(parts));
  for (std::string& part : parts) part.erase(0, 1);
  return parts;
}

bool Workers::any(bool value) const {
  const std::vector<char> values = exchange_values(static_cast<char>(value));
  return std::find(values.begin(), values.end(), true) != values.end();
}

void Workers::broadcast(const Tensor& tensor) const {
  if (is_alone()) return;
  Tensor elements = tensor;
  collective_->broadcast(elements);
}

void Workers::fail(const std::exception& error) const {
  if (is_alone() || dynamic_cast<const WorkerError*>(&error) != nullptr) throw;
  const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  throw WorkerError(failure_text(communicator_->gather(concat_text(failure, no_memory ? "not enough memory" : error.what()))));
}

std::unique_ptr<Collective> open_collective(Communicator* communicator, Device device, const std::function<void(const std::string&)>& on_note) {
  const Workers workers(communicator);
  if (workers.is_alone()) return nullptr;
  const std::vector<int> kinds = workers.exchange_values(static_cast<int>(device.kind));
  const auto other = std::find_if(kinds.begin(), kinds.end(), [&](int kind) { return kind != kinds.front(); });
  require<DeviceError>(other == kinds.end(), "train: expected devices of one kind, worker 0 uses ", name_of(static_cast<DeviceKind>(kinds.front())),
                       ", worker ", other - kinds.begin(), " another kind");
  if (device.kind == DeviceKind::Cpu) return nullptr;
  const auto exchange = [&workers](const std::string& bytes) { return workers.exchange(bytes); };
  std::unique_ptr<Collective> collective =
      runtime_of(device.kind).open_collective(device.index, communicator->rank(), communicator->size(), exchange, on_note);
  return collective != nullptr ? std::move(collective) : std::make_unique<StagedCollective>(*communicator);
}

}  // namespace mblm
