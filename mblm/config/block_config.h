// Configurations of stage blocks, and the registry of the names that YAML uses for them.
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

// Cost of a block's forward pass over one sequence of `tokens` tokens, for `mblm info`.
struct BlockCost {
  double flops = 0;         // 2 per multiply-add
  double activations = 0;  // numbers kept for the backward pass
};

class BlockConfig {
 public:
  virtual ~BlockConfig() = default;
  virtual std::string_view type() const = 0;  // the block_type
  // True if each token sees all tokens (within ForwardContext::token_mask if set). Masked language models require such blocks,
  // other models reject them.
  virtual bool is_encoder() const { return false; }
  // Declares each field once, for reading, checking and writing YAML. An override calls BlockConfig::fields for the shared fields.
  virtual void fields(Fields& f) { f.optional("pos_emb_type", pos_emb_type); }
  // Checks that need the stage's width or more than one field; `f` names the fields in errors. An override calls the base's check.
  virtual void check(const Fields& f, std::int64_t width) const;
  virtual std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const = 0;
  // Zero means unknown, for cost() and for parameter_count().
  virtual BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const;
  virtual double parameter_count(std::int64_t width, std::int64_t layers) const;  // double, which does not overflow

  PositionKind pos_emb_type = PositionKind::None;
};

// Fields of the transformer decoder block (spec/model.md): attn_head_dims is d, attn_num_heads is h.
struct TransformerConfig : BlockConfig {
  std::int64_t attn_head_dims = 64, attn_num_heads = 8;
  bool attn_use_rot_embs = false;
  double attn_dropout = 0, ff_dropout = 0;
  std::int64_t ff_multiplier = 2;
  bool use_flash_attn = false;  // accepted without effect: the kernels decide

  std::string_view type() const override { return "transformer"; }
  void fields(Fields& f) override;
  void check(const Fields& f, std::int64_t width) const override;
  std::unique_ptr<StageBlock> build(const Scope& scope, std::int64_t width, std::int64_t layers) const override;
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override;
  double parameter_count(std::int64_t width, std::int64_t layers) const override;
};

// Encoder with the same fields, without causal mask and token shift.
struct TransformerEncoderConfig final : TransformerConfig {
  std::string_view type() const override { return "transformerEncoder"; }
  bool is_encoder() const override { return true; }
};

// Fields that both Mamba blocks share.
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

// The blocks that YAML can name. Not global: an embedding program creates a registry, adds its own blocks and passes it on.
class BlockRegistry {
 public:
  using Make = std::function<std::shared_ptr<BlockConfig>()>;
  enum class ChosenBy { FieldsToo, NameOnly };  // NameOnly: never chosen for YAML without a block_type

  BlockRegistry();  // transformer, transformerEncoder, mamba2, and mamba1 (by name only: it has the fields of mamba2)
  // Throws ValueError if the type is already registered, or if `make` returns a block of another type.
  void add(const std::string& block_type, Make make, ChosenBy chosen_by = ChosenBy::FieldsToo);
  // Adds a class with a default constructor: registry.add<LstmConfig>().
  template <class Config>
  void add(ChosenBy chosen_by = ChosenBy::FieldsToo) {
    add(std::string(Config().type()), [] { return std::make_shared<Config>(); }, chosen_by);
  }
  bool has(const std::string& block_type) const { return entries_.count(block_type) != 0; }
  bool chosen_by_fields(const std::string& block_type) const;
  // Throws ValueError for an unknown type.
  std::shared_ptr<BlockConfig> make(const std::string& block_type) const;
  // Sorted names of the encoder types or of the causal types.
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
