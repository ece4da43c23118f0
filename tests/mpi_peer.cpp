// The program that tests/mpi_test.cpp runs with mpirun:
//   mpi_peer sum                              checks sums, broadcasts and gathers of many sizes
//   mpi_peer single                           opens the communicator with an MPI library for one thread only
//   mpi_peer train CONFIG [FIELD=VALUE ...]   trains on the data set `dealt`; fails if the final models of the workers differ
//   mpi_peer hooks CONFIG [FIELD=VALUE ...]   the same with hooks; fails if the gradients that they see or their states differ
#include <iostream>
#include <string>

#include "engine/elementwise.h"
#include "engine/error.h"
#include "engine/random.h"
#include "ops/add.h"
#include "ops/scale.h"
#include "tests/dealt_dataset.h"
#include "train/trainer.h"

namespace {

using namespace mblm;

// Values whose sum depends on the order of addition.
std::vector<float> values_of(int rank, std::size_t size) {
  std::vector<float> values(size);
  for (std::size_t i = 0; i < size; ++i) {
    const double value = random_uniform(RandomKey{7, 1, static_cast<std::uint32_t>(rank)}, i) - 0.5;
    values[i] = static_cast<float>(value * (i % 3 == 0 ? 1e6 : 1));
  }
  return values;
}

void check_size(Communicator& communicator, std::size_t size) {
  const Shape shape{static_cast<std::int64_t>(size)};
  Tensor values = from_values<float>(shape, values_of(communicator.rank(), size));
  std::vector<float> wanted = values_of(0, size);
  communicator.sum(values);
  for (int rank = 1; rank < communicator.size(); ++rank) {
    const std::vector<float> other = values_of(rank, size);
    for (std::size_t i = 0; i < size; ++i) wanted[i] += other[i];
  }
  require(values.to_vector<float>() == wanted, "sum: wrong bits for ", size, " values");
  Tensor own = from_values<float>(shape, values_of(communicator.rank(), size));
  communicator.broadcast(own);
  require(own.to_vector<float>() == values_of(0, size), "broadcast: wrong values for size ", size);
}

void check_sums(Communicator& communicator) {
  const std::size_t chunks = (std::size_t{1} << 18) * static_cast<std::size_t>(communicator.size());
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1023}, chunks - 1, chunks, 2 * chunks + 5}) check_size(communicator, size);
  const std::string own(static_cast<std::size_t>(3 * communicator.rank()), 'x');
  const std::vector<std::string> parts = communicator.gather(own);
  for (std::size_t rank = 0; rank < parts.size(); ++rank) require(parts[rank].size() == 3 * rank, "gather: wrong bytes of rank ", rank);
}

void train(Communicator* communicator, const std::string& file, const Overrides& overrides, const TrainerHooks& hooks = {}) {
  Trainer trainer(read_run_config(file, BlockRegistry(), overrides), testing::dealt_registry(), {.hooks = hooks, .communicator = communicator});
  trainer.run();
  const std::vector<float> values = trainer.model().parameters().values().to_vector<float>();
  for (const std::vector<float>& other : Workers(communicator).exchange_lists(values)) require(other == values, "train: the models of the workers differ");
}

// Ends at the second validation, which only rank 0 decides.
void train_with_hooks(Communicator* communicator, const std::string& file, const Overrides& overrides) {
  std::vector<float> gradients;
  Tensor average;
  TrainerHooks hooks;
  hooks.before_update = [&](Model& model, const StepInfo&) {
    const std::vector<float> seen = model.parameters().gradients().to_vector<float>();
    gradients.insert(gradients.end(), seen.begin(), seen.end());
    Tensor all = model.parameters().gradients();
    convert(scale(all, 0.5), all);
  };
  hooks.after_update = [&](Model& model, const StepInfo&) { convert(add(scale(average, 0.9), scale(model.parameters().values(), 0.1)), average); };
  hooks.state = [&](const Model& model) {
    average = zeros_like(model.parameters().values());
    return std::vector<NamedTensor>{{"average", average}};
  };
  hooks.end_run = [&](const ValidationReport& report) { return communicator->rank() == 0 && report.validations == 2; };
  train(communicator, file, overrides, hooks);
  require(!gradients.empty(), "hooks: before_update was not called");
  for (const std::vector<float>& other : Workers(communicator).exchange_lists(gradients)) require(other == gradients, "hooks: the gradients of the workers differ");
  const std::vector<float> own = average.to_vector<float>();
  for (const std::vector<float>& other : Workers(communicator).exchange_lists(own)) require(other == own, "hooks: the states of the workers differ");
}

bool for_one_thread = false;

}  // namespace

// Replaces MPI's function for the module, which finds the symbols of the program first.
extern "C" int PMPI_Init_thread(int* count, char*** arguments, int wanted, int* provided);
extern "C" int MPI_Init_thread(int* count, char*** arguments, int wanted, int* provided) {
  const int result = PMPI_Init_thread(count, arguments, wanted, provided);
  if (for_one_thread) *provided = 0;  // MPI_THREAD_SINGLE
  return result;
}

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  try {
    for_one_thread = words.at(0) == "single";
    const std::unique_ptr<Communicator> communicator = open_communicator();
    require(communicator != nullptr, "expected a launcher, there is none");
    if (words.at(0) == "sum") check_sums(*communicator);
    else if (words.at(0) == "hooks") train_with_hooks(communicator.get(), words.at(1), Overrides(words.begin() + 2, words.end()));
    else train(communicator.get(), words.at(1), Overrides(words.begin() + 2, words.end()));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "mpi_peer: " << error.what() << '\n';
    return 1;
  }
}
