#include "mblm/config/block_config.h"

#include "engine/error.h"
#include "mblm/config/field_rules.h"

namespace mblm {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

}  // namespace

void BlockConfig::check(const Fields& f, std::int64_t width) const {
  if (pos_emb_type == PositionKind::Rope && width % 2 != 0)
    f.fail("pos_emb_type", concat_text("expected an even width (hidden_dims) for rope, which rotates pairs of channels, got ", width));
}

BlockCost BlockConfig::cost(std::int64_t, std::int64_t, std::int64_t) const { return {}; }

double BlockConfig::parameter_count(std::int64_t, std::int64_t) const { return 0; }

void TransformerConfig::fields(Fields& f) {
  f.required("attn_head_dims", attn_head_dims, positive);
  f.required("attn_num_heads", attn_num_heads, positive);
  f.required("attn_use_rot_embs", attn_use_rot_embs);
  f.optional("attn_dropout", attn_dropout, probability);
  f.optional("ff_multiplier", ff_multiplier, positive);
  f.optional("ff_dropout", ff_dropout, probability);
  f.optional("use_flash_attn", use_flash_attn);
  BlockConfig::fields(f);
}

void TransformerConfig::check(const Fields& f, std::int64_t width) const {
  BlockConfig::check(f, width);
  if (!is_encoder() && width % 2 != 0)
    f.fail("", concat_text("expected an even width (hidden_dims) for the token shift of a transformer, got ", width));
  if (attn_use_rot_embs && attn_head_dims % 2 != 0)
    f.fail("attn_head_dims", concat_text("expected an even size for rotary embeddings (attn_use_rot_embs), got ", attn_head_dims));
}

// Per layer: two gains of D, q, k, v and out of h d D each, two feed-forward matrices with biases. Then one gain of D.
double TransformerConfig::parameter_count(std::int64_t width, std::int64_t layers) const {
  const double d = real(width), inner = real(attn_head_dims) * real(attn_num_heads), hidden = real(ff_multiplier) * d;
  return real(layers) * (2 * d + 4 * inner * d + 2 * hidden * d + hidden + d) + d;
}

void MambaConfig::fields(Fields& f) {
  f.required("d_state", d_state, positive);
  f.required("d_conv", d_conv, positive);
  f.required("expand", expand, positive);
  f.required("headdim", headdim, positive);
  f.optional("dropout", dropout, probability);
  BlockConfig::fields(f);
}

void Mamba2Config::check(const Fields& f, std::int64_t width) const {
  BlockConfig::check(f, width);
  if (expand * width % headdim != 0)
    f.fail("headdim", concat_text("expected a divisor of expand * width = ", expand, " * ", width, " = ", expand * width, ", got ", headdim));
}

// Per layer: a gain of D, in_proj, conv1d with bias, dt_bias, A_log and D (H each), a gain of d_inner, out_proj. Then one gain of D.
double Mamba2Config::parameter_count(std::int64_t width, std::int64_t layers) const {
  const double d = real(width), inner = real(expand) * d, heads = inner / real(headdim), convolved = inner + 2 * real(d_state);
  return real(layers) * (d + (inner + convolved + heads) * d + convolved * (real(d_conv) + 1) + 3 * heads + inner + inner * d) + d;
}

// Per layer: a gain of D, in_proj, conv1d with bias, x_proj, dt_proj with bias, A_log, D, out_proj.
double Mamba1Config::parameter_count(std::int64_t width, std::int64_t layers) const {
  const double d = real(width), inner = real(expand) * d, rank = real((width + 15) / 16), state = real(d_state);
  return real(layers) *
         (d + 2 * inner * d + inner * (real(d_conv) + 1) + (rank + 2 * state) * inner + inner * (rank + 1) + inner * state + inner + inner * d);
}

BlockRegistry::BlockRegistry() {
  add<TransformerConfig>();
  add<TransformerEncoderConfig>();
  add<Mamba2Config>();
  add<Mamba1Config>(ChosenBy::NameOnly);
}

void BlockRegistry::add(const std::string& block_type, Make make, ChosenBy chosen_by) {
  require<ValueError>(!has(block_type), "blocks: type ", block_type, " is already registered");
  const std::string made(make()->type());
  require<ValueError>(made == block_type, "blocks: expected a block of type ", block_type, ", got ", made);
  entries_.emplace(block_type, Entry{std::move(make), chosen_by});
}

const BlockRegistry::Entry& BlockRegistry::entry(const std::string& block_type) const {
  const auto found = entries_.find(block_type);
  if (found == entries_.end())
    throw ValueError(concat_text("blocks: expected one of ", joined(types(), ", "), ", ", joined(types(true), ", "), ", got ", block_type));
  return found->second;
}

bool BlockRegistry::chosen_by_fields(const std::string& block_type) const { return entry(block_type).chosen_by == ChosenBy::FieldsToo; }

std::shared_ptr<BlockConfig> BlockRegistry::make(const std::string& block_type) const { return entry(block_type).make(); }

std::vector<std::string> BlockRegistry::types(bool encoders) const {
  std::vector<std::string> types;
  for (const auto& [type, entry] : entries_)
    if (entry.make()->is_encoder() == encoders) types.push_back(type);
  return types;
}

}  // namespace mblm
