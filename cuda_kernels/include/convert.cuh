// bf16 and tf32: a float's sign and exponent, with 7 and 10 bits of mantissa.
#pragma once

#include "target.cuh"

struct bf16 {
    u16 bits;
};

DEVICE float to_float(bf16 x) { return __uint_as_float(static_cast<u32>(x.bits) << 16); }
DEVICE float to_float(float x) { return x; }

// The two bf16 of a register, the first in its lower half.
DEVICE float first_of(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float second_of(u32 pair) { return __uint_as_float(pair & 0xFFFF0000); }

#if ON_GPU && __CUDA_ARCH__ >= 800

// Both rounded to nearest, ties to even.
DEVICE u32 pack_bf16(float first, float second) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// The nearest tf32, ties away from zero. A tensor core would cut the bits off instead.
DEVICE u32 to_tf32(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

#else

DEVICE u32 round_to_bf16(float x) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;  // NaN, as cvt.rn.bf16 writes it
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

DEVICE u32 pack_bf16(float first, float second) {
    return round_to_bf16(first) | round_to_bf16(second) << 16;
}

DEVICE u32 to_tf32(float x) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7F800000) == 0x7F800000) return bits;  // infinite or NaN
    return (bits + 0x1000) & 0xFFFFE000;
}

#endif

DEVICE bf16 to_bf16(float x) { return {static_cast<u16>(pack_bf16(x, 0.0F))}; }

// A float as the type that a buffer holds.
template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
    return x;
}
template <>
DEVICE bf16 from_float<bf16>(float x) {
    return to_bf16(x);
}
