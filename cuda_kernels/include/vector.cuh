// Several neighbours by one instruction: four floats (16 bytes), or two numbers of either type. The
// address is a multiple of their size; a GPU traps at any other.
#pragma once

#include "convert.cuh"
#include "shared.cuh"

#if ON_GPU

DEVICE float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEVICE void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

DEVICE void store2(float* to, float first, float second) {
    *reinterpret_cast<float2*>(to) = float2{first, second};
}
DEVICE void store2(bf16* to, float first, float second) {
    *reinterpret_cast<u32*>(to) = pack_bf16(first, second);
}

#else

#include "vector.hpp"

#endif
