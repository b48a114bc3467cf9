// Beside a product on CUDA cores: the sum of its first operand's rows over the terms, from the
// tiles in shared memory. Of a weight gradient, those of the output's gradient: the bias's.
#pragma once

#include "shared.cuh"

// Of a row of tiles [16 terms][64 rows and 4 unused], in a block of 256 threads. Four neighbouring
// threads share a row; what a warp reads at once, 8 rows of terms 0, 2, 4 and 6, is in 32 banks.
struct RowSum {
    float sum = 0.0F;

    static DEVICE u32 row() { return threadIdx.x / 4; }

    template <class Tile>
    DEVICE void add(Tile& tile) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) sum += tile[threadIdx.x % 4 * 2 + i % 2 + i / 2 * 8][row()];
    }

    // Overwrites `out`, or adds to it, if the row exists. All threads of a warp take part.
    DEVICE void store(bool exists, u32 accumulate, Global<float> out) const {
        float total = sum + __shfl_xor_sync(0xFFFFFFFF, sum, 1);
        total += __shfl_xor_sync(0xFFFFFFFF, total, 2);
        if (threadIdx.x % 4 == 0 && exists) *out = accumulate ? *out + total : total;
    }
};
