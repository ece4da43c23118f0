// Configurations of stage blocks, and the registry by which YAML names them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mblm/config/fields.h"

namespace mblm {

class Scope;
class StageBlock;

// What a block costs for one sequence of `tokens` tokens, forward: for `mblm info`.
struct BlockCost {
  double flops = 0;         // 2 per multiply-add
  double activations = 0;  // numbers that the backward pass needs
};

class BlockConfig {
 public:
  virtual ~BlockConfig() = default;
  virtual std::string_view type() const = 0;  // its block_type
  // Sees all tokens, those of ForwardContext::token_mask where there is one: for masked language models, and for them only.
  virtual bool is_encoder() const { return false; }
  // Declares each field once; reading, checking and writing YAML follow from it. Override, and call for the shared ones.
  virtual void fields(Fields& f) { f.optional("pos_emb_type", pos_emb_type); }
  // Checks that need the stage's width or more than one field; `f` names them in errors. Call the base's too.
  virtual void check(const Fields& f, std::int64_t width) const;
  virtual std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const = 0;
  // Zero means unknown, for both.
  virtual BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const;
  virtual double parameter_count(std::int64_t width, std::int64_t layers) const;  // a double, so that no size overflows it

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
  double parameter_count(std::int64_t width, std::int64_t layers) const override;
};

// The same fields; no causal mask and no token shift.
struct TransformerEncoderConfig final : TransformerConfig {
  std::string_view type() const override { return "transformerEncoder"; }
  bool is_encoder() const override { return true; }
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
  double parameter_count(std::int64_t width, std::int64_t layers) const override;
};

struct Mamba1Config : MambaConfig {
  std::string_view type() const override { return "mamba1"; }
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override;
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override;
  double parameter_count(std::int64_t width, std::int64_t layers) const override;
};

// The blocks that YAML can name. A value, not a global: an embedding program makes one, adds its own and passes it on.
class BlockRegistry {
 public:
  using Make = std::function<std::shared_ptr<BlockConfig>()>;
  enum class ChosenBy { FieldsToo, NameOnly };  // NameOnly: YAML without a block_type never means this block

  BlockRegistry();  // transformer, transformerEncoder, mamba2, mamba1 (by name only: its fields are those of mamba2)
  // Throws ValueError when the type is there already, or when `make` gives blocks of another type.
  void add(const std::string& block_type, Make make, ChosenBy chosen_by = ChosenBy::FieldsToo);
  // The block type of a class that is made without arguments: registry.add<LstmConfig>().
  template <class Config>
  void add(ChosenBy chosen_by = ChosenBy::FieldsToo) {
    add(std::string(Config().type()), [] { return std::make_shared<Config>(); }, chosen_by);
  }
  bool has(const std::string& block_type) const { return entries_.count(block_type) != 0; }
  bool chosen_by_fields(const std::string& block_type) const;
  // Throws ValueError for an unknown type.
  std::shared_ptr<BlockConfig> make(const std::string& block_type) const;
  // Types in order of name: those of encoders, or the others.
  std::vector<std::string> types(bool encoders = false) const;

 private:
  struct Entry {
    Make make;
    ChosenBy chosen_by;
  };
  const Entry& entry(const std::string& block_type) const;
  std::map<std::string, Entry> entries_;
};

}  // namespace mblm
