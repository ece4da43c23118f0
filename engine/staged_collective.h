// Sums and broadcasts of tensors on GPUs through host memory.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>

#include "engine/collective.h"

namespace mblm {

// Passes tensors on any device to the operations of a collective for the host's memory. A tensor on a GPU goes through two pinned buffers:
// while the workers sum one piece, the next one is copied to the host. The order of a sum is that of the host's collective.
class StagedCollective final : public Collective {
 public:
  // `host` must outlive this object.
  explicit StagedCollective(Collective& host, std::size_t piece_bytes = std::size_t{16} << 20) : host_(host), piece_bytes_(piece_bytes) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void sum(Tensor& x) override;
  void broadcast(Tensor& x) override;

 private:
  // The copies to and from a buffer are in the order of the compute stream.
  struct Buffer {
    std::shared_ptr<Storage> storage;  // pinned
    Event copied = 0;
  };
  void in_pieces(Tensor& x, const std::function<void(Tensor& piece)>& exchange);

  Collective& host_;
  const std::size_t piece_bytes_;
  std::array<Buffer, 2> buffers_{};  // allocated at first use
};

}  // namespace mblm
