// Stateless random numbers.
#include "engine/random.h"

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <vector>

#include "engine/error.h"
#include "engine/random_sites.h"

namespace mblm::testing {
namespace {

std::vector<std::uint64_t> permutation(RandomKey key, std::uint64_t n) {
  std::vector<std::uint64_t> order;
  for (std::uint64_t i = 0; i < n; ++i) order.push_back(random_permutation(key, n, i));
  return order;
}

}  // namespace

// Test vectors of the Random123 distribution: the counter is (block, site, step), the key is the seed, low words first.
TEST_CASE("philox reproduces the known answers") {
  CHECK(philox({0, 0, 0}, 0) == RandomWords{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  CHECK(philox({UINT64_MAX, UINT32_MAX, UINT32_MAX}, UINT64_MAX) == RandomWords{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  CHECK(philox({0x299f31d0a4093822, 0x13198a2e, 0x03707344}, 0x85a308d3243f6a88) == RandomWords{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("elements are the words of consecutive blocks") {
  const RandomKey key{7, 8, 9};
  for (std::uint64_t element : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{1} << 40})
    CHECK(random_word(key, element) == philox(key, element / 4)[element % 4]);
}

TEST_CASE("uniform numbers are uniform") {
  constexpr int n = 1 << 20;
  const RandomKey key{1, site_of("uniform"), 3};
  double sum = 0, square = 0, neighbours = 0, before = 0;
  std::vector<int> histogram(64);
  for (std::uint64_t i = 0; i < n; ++i) {
    const double u = random_uniform(key, i);
    REQUIRE((u >= 0 && u < 1));
    sum += u;
    square += u * u;
    neighbours += (u - 0.5) * (before - 0.5);
    before = u;
    ++histogram[static_cast<std::size_t>(u * 64)];
  }
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(square / n - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / n));
  CHECK(std::abs(neighbours / n) < 5.0 / 12 / std::sqrt(n));
  double chi = 0;
  for (const int count : histogram) chi += (count - n / 64.0) * (count - n / 64.0) / (n / 64.0);
  CHECK(chi < 63 + 5 * std::sqrt(126.0));
}

TEST_CASE("normal numbers are normal") {
  constexpr int n = 1 << 20;
  const RandomKey key{2, site_of("normal"), 0};
  double moments[5] = {};
  for (std::uint64_t i = 0; i < n; ++i) {
    const double x = random_normal(key, i);
    REQUIRE(std::isfinite(x));
    double power = 1;
    for (double& moment : moments) {
      moment += power / n;
      power *= x;
    }
  }
  // The variance of the k-th sample moment is (E x^2k - (E x^k)^2) / n.
  CHECK(std::abs(moments[1]) < 5 * std::sqrt(1.0 / n));
  CHECK(std::abs(moments[2] - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(moments[3]) < 5 * std::sqrt(15.0 / n));
  CHECK(std::abs(moments[4] - 3) < 5 * std::sqrt(96.0 / n));
}

TEST_CASE("seed, site and step each select a different stream") {
  std::set<std::uint32_t> firsts;
  for (const RandomKey& key : {RandomKey{1, 2, 3}, RandomKey{2, 2, 3}, RandomKey{1, 3, 3}, RandomKey{1, 2, 4}, RandomKey{1ull << 32 | 1, 2, 3}})
    firsts.insert(philox(key, 0)[0]);
  CHECK(firsts.size() == 5);
  CHECK(site_of("") == 2166136261u);  // FNV-1a as published
  CHECK(site_of("a") == 0xe40c292cu);
  CHECK(site_of("foobar") == 0xbf9cf968u);
}

TEST_CASE("names with the same hash have different sites") {
  REQUIRE(site_of("costarring") == site_of("liquid"));
  RandomSites sites;
  const std::uint32_t first = sites.add("costarring"), second = sites.add("liquid");
  CHECK(first == site_of("costarring"));
  CHECK(second == site_of("liquid'"));
  CHECK(first != second);
  CHECK(sites.add("costarring") == first);
  CHECK(sites.add("liquid") == second);
  CHECK(sites.add("other") == site_of("other"));
  std::set<std::uint32_t> all{first, second, site_of("other")};
  for (int i = 0; i < 100000; ++i) all.insert(sites.add(std::to_string(i)));
  CHECK(all.size() == 100003);  // one collision is expected among 100000 plain hashes
}

TEST_CASE("a permutation contains each element exactly once") {
  std::vector<std::uint64_t> sizes{255, 256, 257, 1000, 1023, 1024, 1025, 65537};
  for (std::uint64_t n = 1; n <= 40; ++n) sizes.push_back(n);
  for (const std::uint64_t n : sizes) {
    CAPTURE(n);
    std::vector<bool> seen(n);
    for (const std::uint64_t image : permutation({5, 6, 7}, n)) {
      REQUIRE(image < n);
      REQUIRE_FALSE(seen[image]);
      seen[image] = true;
    }
  }
  CHECK(random_permutation({5, 6, 7}, UINT64_MAX, 12345) < UINT64_MAX);
  CHECK_THROWS_AS(random_permutation({}, 3, 3), ValueError);
  CHECK_THROWS_AS(random_permutation({}, 0, 0), ValueError);
}

TEST_CASE("permutations are uniformly distributed") {
  CHECK(permutation({1, 1, 1}, 1000) != permutation({1, 1, 2}, 1000));
  std::uint64_t fixed = 0;
  for (std::uint64_t i = 0; i < 10000; ++i) fixed += random_permutation({3, 4, 5}, 10000, i) == i ? 1 : 0;
  CHECK(fixed < 10);  // one is expected
  constexpr int draws = 24000;
  std::map<std::vector<std::uint64_t>, int> counts;
  for (std::uint32_t step = 0; step < draws; ++step) ++counts[permutation({3, 4, step}, 4)];
  CHECK(counts.size() == 24);
  for (const auto& [order, count] : counts) CHECK(std::abs(count - draws / 24) < 200);  // six standard deviations
}

}  // namespace mblm::testing
