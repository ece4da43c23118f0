// The sites of the random numbers of a model.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace mblm {

// Gives each name a site of its own: site_of(name) (engine/random.h), or, if a name added before has the same 32-bit hash, the hash of
// the name followed by "'", "''" and so on. Two layers therefore never draw the same numbers, and the sites of a model depend only on
// its names and their order.
class RandomSites {
 public:
  // Adds the name if it is new. The same name always has the same site.
  std::uint32_t add(const std::string& name);

 private:
  std::map<std::uint32_t, std::string> names_;  // by site
};

}  // namespace mblm
