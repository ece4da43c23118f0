#include "mblm/package_checkpoint.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/io/torch_file.h"

namespace mblm {
namespace {

// Names within the embedding of a stage above the local one: V042, V041.
constexpr std::pair<std::string_view, std::string_view> layouts[] = {
    {"embedding.weight", "0.weight"}, {"_post.1.weight", "2.weight"}, {"_post.1.bias", "2.bias"}, {"_post.2.weight", "3.weight"},
    {"_post.2.bias", "3.bias"},       {"_post.3.weight", "4.weight"}, {"_post.3.bias", "4.bias"}};
// The embedding of the local stage has one parameter.
constexpr std::pair<std::string_view, std::string_view> local_layout{"embedding.weight", "weight"};

// Replaces the part after `token_embs_rev.k.` by change(k == 0, part). Returns other names unchanged.
template <class Change>
std::string with_embedding_renamed(const std::string& name, Change change) {
  constexpr std::string_view prefix = "token_embs_rev.";
  if (!name.starts_with(prefix)) return name;
  const std::size_t dot = name.find('.', prefix.size());
  if (dot == name.npos) return name;
  const std::string_view rest = std::string_view(name).substr(dot + 1);
  return name.substr(0, dot + 1) + std::string(change(name.substr(prefix.size(), dot - prefix.size()) == "0", rest));
}

// The order of a package module's children, for modules where it differs from the order of declaration here. `#` matches a number.
struct ChildOrder {
  std::string_view module;
  std::vector<std::string_view> children;
};
const std::vector<ChildOrder>& child_orders() {
  static const std::vector<ChildOrder> orders = {
      {"", {"start_tokens", "pos_embs", "token_embs_rev", "stage_models", "to_next_stage_proj", "to_logits"}},
      {"stage_models.#.", {"rotary_emb", "layers", "norm", "norm_f"}},
      {"stage_models.#.layers.#.mixer.", {"dt_bias", "A_log", "D", "in_proj", "conv1d", "x_proj", "dt_proj", "norm", "out_proj"}}};
  return orders;
}

// The tree of modules of the package. Each part of a name between dots is a node; children are in order of appearance.
struct ModuleTree {
  struct Child;
  std::vector<Child> children;
  std::vector<NamedTensor> tensors;  // one in a leaf, otherwise empty

  void add(std::string_view rest, NamedTensor tensor);
  // Appends the tensors in the package's order. `module` is the pattern of this node's name, with a final dot.
  void collect(const std::string& module, std::vector<NamedTensor>& out);
};

struct ModuleTree::Child {
  std::string name;
  ModuleTree tree;
};

void ModuleTree::add(std::string_view rest, NamedTensor tensor) {
  if (rest.empty()) return tensors.push_back(std::move(tensor));
  const std::string part(rest.substr(0, rest.find('.')));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  auto child = std::find_if(children.begin(), children.end(), [&](const Child& known) { return known.name == part; });
  if (child == children.end()) child = children.insert(child, {part, {}});
  child->tree.add(rest, std::move(tensor));
}

void ModuleTree::collect(const std::string& module, std::vector<NamedTensor>& out) {
  for (const ChildOrder& order : child_orders()) {
    const auto rank = [&](const Child& child) { return std::find(order.children.begin(), order.children.end(), child.name) - order.children.begin(); };
    if (order.module == module)
      std::stable_sort(children.begin(), children.end(), [&](const Child& a, const Child& b) { return rank(a) < rank(b); });
  }
  out.insert(out.end(), tensors.begin(), tensors.end());
  for (auto& [name, child] : children) {
    const bool is_number = name.find_first_not_of("0123456789") == name.npos;
    child.collect(module + (is_number ? "#" : name) + ".", out);
  }
}

std::vector<NamedTensor> in_order_of_package(const std::vector<NamedTensor>& tensors) {
  ModuleTree tree;
  for (const NamedTensor& named : tensors) tree.add(named.name, named);
  std::vector<NamedTensor> ordered;
  tree.collect("", ordered);
  return ordered;
}

}  // namespace

std::string current_name(const std::string& name) {
  return with_embedding_renamed(name, [](bool is_local, std::string_view rest) {
    if (is_local) return rest == local_layout.second ? local_layout.first : rest;
    for (const auto& [current, older] : layouts)
      if (rest == older) return current;
    return rest;
  });
}

std::string older_name(const std::string& name) {
  return with_embedding_renamed(name, [](bool is_local, std::string_view rest) {
    if (is_local) return rest == local_layout.first ? local_layout.second : rest;
    for (const auto& [current, older] : layouts)
      if (rest == current) return older;
    return rest;
  });
}

void write_package_checkpoint(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors, std::optional<double> loss,
                              PackageLayout layout) {
  std::vector<NamedTensor> ordered = in_order_of_package(tensors);
  if (layout == PackageLayout::V041)
    for (NamedTensor& named : ordered) named.name = older_name(named.name);
  write_torch_file(path, {{package_model_key, std::move(ordered)}, {package_loss_key, loss.value_or(std::numeric_limits<double>::infinity())}});
}

}  // namespace mblm
