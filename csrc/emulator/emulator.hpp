// Runs CUDA kernels on a CPU. Kernels include it through target.cuh, never directly.
//
// What it checks, with file and line: reads and writes beyond a buffer, misaligned vectors, shared
// memory used beyond an array, before it is written, or by two threads with no barrier between
// them, barriers and warp collectives that not all threads reach, and asynchronous copies used
// before they were waited for. What it cannot see: races in global memory, bank conflicts, and
// ordering between the asynchronous proxy and ordinary accesses.
#pragma once

#include <cmath>

#include "launch.hpp"
#include "warp.hpp"

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};

inline float __uint_as_float(u32 bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline u32 __float_as_uint(float value) {
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline u32 __umulhi(u32 a, u32 b) { return static_cast<u32>(u64{a} * b >> 32); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }

#define EMULATED_KERNEL(name, threads, ...)                               \
    static void name(__VA_ARGS__);                                        \
    extern "C" __attribute__((visibility("default"))) int emulate_##name( \
        const emulator::Launch& launch) {                                 \
        return emulator::launch(#name, threads, name, launch);            \
    }                                                                     \
    static void name(__VA_ARGS__)

template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
