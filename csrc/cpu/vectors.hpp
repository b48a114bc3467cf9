// The widest vectors of an instruction set, and how they meet memory. Part of the kernels: compiled
// per level.
#pragma once

#include <cstdint>
#include <cstring>

#include "runtime.hpp"

namespace fercore::FERCORE_LEVEL {

#if defined(__AVX512F__)
constexpr Index lanes = 16;
#elif defined(__AVX__)
constexpr Index lanes = 8;
#else
constexpr Index lanes = 4;
#endif
typedef float Vector __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));
// As many doubles, integers and bytes as a Vector has entries.
typedef double Doubles __attribute__((vector_size(lanes * sizeof(double))));
typedef std::int32_t Integers __attribute__((vector_size(lanes * sizeof(float))));
typedef std::uint8_t Bytes __attribute__((vector_size(lanes), aligned(1), may_alias));

// The first `count` entries at data, at most as many as a Vector has; zeros after them. (Not a
// template: as its argument a vector would lose its alignment.)
inline Vector load(const float* data, Index count) {
    if (count >= lanes) return *reinterpret_cast<const Vector*>(data);
    Vector value = {};
    std::memcpy(&value, data, count * sizeof(float));
    return value;
}
inline Bytes load(const std::uint8_t* data, Index count) {
    if (count >= lanes) return *reinterpret_cast<const Bytes*>(data);
    Bytes value = {};
    std::memcpy(&value, data, count);
    return value;
}

// The first `count` entries of `value`, at most all, to data.
inline void store(float* data, Index count, Vector value) {
    if (count >= lanes) {
        *reinterpret_cast<Vector*>(data) = value;
    } else {
        std::memcpy(data, &value, count * sizeof(float));
    }
}

}  // namespace fercore::FERCORE_LEVEL
