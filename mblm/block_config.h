// Configurations of stage blocks, and the registry by which YAML names them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "mblm/fields.h"
#include "mblm/stage_block.h"

namespace mblm {

enum class PositionKind { None, Fixed, Rope };  // pos_emb_type: null, fixed, rope

// What a block costs for one sequence of `tokens` tokens, forward: for `mblm info`.
struct BlockCost {
  double flops = 0;           // 2 per multiply-add
  double kept_numbers = 0;    // kept for the backward pass
};

class BlockConfig {
 public:
  virtual ~BlockConfig() = default;
  virtual std::string_view type() const = 0;  // its block_type
  // Declares each field once; reading, checking and writing YAML follow from it. Override, and call for the shared ones.
  virtual void fields(Fields& f) { f.optional("pos_emb_type", pos_emb_type); }
  // Checks that need more than one field; `f` names them in errors. Called after reading.
  virtual void check(const Fields& f, std::int64_t width) const;
  virtual std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const = 0;
  virtual BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const;

  PositionKind pos_emb_type = PositionKind::None;
};

// attn_head_dims d, attn_num_heads h, ... of spec "Transformer decoder block".
struct TransformerConfig : BlockConfig {
  std::int64_t attn_head_dims = 64, attn_num_heads = 8;
  bool attn_use_rot_embs = false;
  double attn_dropout = 0, ff_dropout = 0;
  std::int64_t ff_multiplier = 2;
  bool use_flash_attn = false;  // accepted; the kernels decide

  std::string_view type() const override { return "transformer"; }
  void fields(Fields& f) override;
  void check(const Fields& f, std::int64_t width) const override;
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override;
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override;
};

// Fields of both Mamba blocks.
struct MambaConfig : BlockConfig {
  std::int64_t d_state = 128, d_conv = 4, expand = 2, headdim = 64;
  double dropout = 0;
  void fields(Fields& f) override;
};

struct Mamba2Config : MambaConfig {
  std::string_view type() const override { return "mamba2"; }
  void check(const Fields& f, std::int64_t width) const override;
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override;
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override;
};

struct Mamba1Config : MambaConfig {
  std::string_view type() const override { return "mamba1"; }
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override;
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override;
};

// The blocks that YAML can name. A value, not a global: an embedding program makes one, adds its own and passes it on.
class BlockRegistry {
 public:
  using Make = std::function<std::shared_ptr<BlockConfig>()>;
  BlockRegistry();  // transformer, mamba2, mamba1
  // Throws ValueError when the type is there already.
  void add(const std::string& block_type, Make make);
  bool has(const std::string& block_type) const { return makers_.count(block_type) != 0; }
  std::shared_ptr<BlockConfig> make(const std::string& block_type) const;
  // Types in order of name.
  std::vector<std::string> types() const;

 private:
  std::map<std::string, Make> makers_;
};

}  // namespace mblm
