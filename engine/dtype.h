// Element types of tensors.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

#ifdef __CUDACC__
#define MBLM_HOST_DEVICE __host__ __device__
#else
#define MBLM_HOST_DEVICE
#endif

namespace mblm {

enum class DType : std::uint8_t { Float32, Float64, BFloat16, Int32, Int64, UInt8 };
inline constexpr int dtype_count = 6;

// The upper half of a float32; conversion rounds to nearest even and preserves NaN.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  MBLM_HOST_DEVICE explicit bfloat16(float value) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  MBLM_HOST_DEVICE explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::Float64:
    case DType::Int64: return 8;
    case DType::Float32:
    case DType::Int32: return 4;
    case DType::BFloat16: return 2;
    case DType::UInt8: return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view names[] = {"float32", "float64", "bfloat16", "int32", "int64", "uint8"};
  return names[static_cast<int>(dtype)];
}

constexpr bool is_floating(DType dtype) { return dtype == DType::Float32 || dtype == DType::Float64 || dtype == DType::BFloat16; }

inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

template <class T> struct DTypeOf;
template <> struct DTypeOf<float> { static constexpr DType value = DType::Float32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::Float64; };
template <> struct DTypeOf<bfloat16> { static constexpr DType value = DType::BFloat16; };
template <> struct DTypeOf<std::int32_t> { static constexpr DType value = DType::Int32; };
template <> struct DTypeOf<std::int64_t> { static constexpr DType value = DType::Int64; };
template <> struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::UInt8; };
template <class T> inline constexpr DType dtype_of = DTypeOf<T>::value;

// Calls f.operator()<T>() with the C++ type of `dtype`.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float64: return f.template operator()<double>();
    case DType::BFloat16: return f.template operator()<bfloat16>();
    case DType::Int32: return f.template operator()<std::int32_t>();
    case DType::Int64: return f.template operator()<std::int64_t>();
    case DType::UInt8: return f.template operator()<std::uint8_t>();
    case DType::Float32: break;
  }
  return f.template operator()<float>();
}

// Converts `value` to To; bfloat16 is converted through float32.
template <class To, class From>
MBLM_HOST_DEVICE constexpr To element_cast(From value) {
  if constexpr (std::is_same_v<From, bfloat16> && std::is_same_v<To, bfloat16>) {
    return value;
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return static_cast<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return bfloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace mblm
