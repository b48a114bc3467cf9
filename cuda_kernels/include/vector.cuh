// Several neighbours by one instruction: four or two numbers, floats or bf16, or eight bf16 as four
// pairs. The address is a multiple of their size; a GPU traps at any other.
#pragma once

#include "convert.cuh"
#include "shared.cuh"

#if ON_GPU

DEVICE float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEVICE void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

DEVICE float4 load4(const bf16* from) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(from);
    return {first_of(pairs.x), second_of(pairs.x), first_of(pairs.y), second_of(pairs.y)};
}
DEVICE void store4(bf16* to, float4 value) {
    *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(value.x, value.y), pack_bf16(value.z, value.w)};
}

DEVICE void store8(bf16* to, const u32 (&pairs)[4]) {
    *reinterpret_cast<uint4*>(to) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
}

DEVICE float2 load2(const float* from) { return *reinterpret_cast<const float2*>(from); }
DEVICE float2 load2(const bf16* from) {
    const u32 pair = *reinterpret_cast<const u32*>(from);
    return {first_of(pair), second_of(pair)};
}
DEVICE void store2(float* to, float first, float second) {
    *reinterpret_cast<float2*>(to) = float2{first, second};
}
DEVICE void store2(bf16* to, float first, float second) {
    *reinterpret_cast<u32*>(to) = pack_bf16(first, second);
}

#else

#include "vector.hpp"

#endif
