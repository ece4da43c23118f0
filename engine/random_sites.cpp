#include "engine/random_sites.h"

#include "engine/random.h"

namespace mblm {

std::uint32_t RandomSites::add(const std::string& name) {
  for (std::string hashed = name;; hashed += '\'') {
    const auto [entry, is_new] = names_.try_emplace(site_of(hashed), name);
    if (is_new || entry->second == name) return entry->first;
  }
}

}  // namespace mblm
