// Philox4x32-10, the random numbers of every backend: a pure function of a counter and a key, so
// any thread can draw any of them, in any order, again and again (Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include "target.cuh"

constexpr u32 dropout_stream = 0, augmentation_stream = 1;  // last word of a counter

DEVICE uint4 philox(uint4 counter, u32 key0, u32 key1) {
    for (i32 round = 0; round < 10; ++round) {
        const u32 low0 = 0xD2511F53 * counter.x, high0 = __umulhi(0xD2511F53, counter.x);
        const u32 low1 = 0xCD9E8D57 * counter.z, high1 = __umulhi(0xCD9E8D57, counter.z);
        counter = {high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0};
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    return counter;
}
