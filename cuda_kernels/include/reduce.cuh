// Sums by the threads of a warp or a block together, always in the same order: the same inputs give
// the same bits. Every thread takes part and receives the sum.
#pragma once

#include "shared.cuh"

// A butterfly: after the step over 16, 8, ... lanes each lane holds the sum over ever larger sets.
template <class T>
DEVICE T warp_sum(T value) {
#pragma unroll
    for (u32 step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFF, value, step);
    return value;
}

template <class T, int Threads>
struct BlockSum {
    Array<T, Threads / 32> of_warp;

    // `thread` is the caller's number within the block. Ends with all threads past a barrier, so
    // that the next sum may follow at once.
    DEVICE T operator()(T value, u32 thread) {
        value = warp_sum(value);
        if (thread % 32 == 0) of_warp[thread / 32] = value;
        __syncthreads();
        T total = 0;
        for (u32 warp = 0; warp < Threads / 32; ++warp) total += of_warp[warp];
        __syncthreads();
        return total;
    }
};
