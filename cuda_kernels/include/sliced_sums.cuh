// Sums of which a kernel left a part for each slice of their terms: partial [slices][count].
#pragma once

#include "grid.cuh"
#include "shared.cuh"

// Few slices: a thread adds those of its entries, in order. Many, of what are few entries as a
// rule: a block takes 32 entries at a time, thread (part, lane) adds every eighth slice of one, in
// order, and then one thread an entry adds the eight parts, in order. What is added when depends on
// `slices` alone, and so does every bit of the result.
constexpr u32 few_slices = 16, parts_of_sum = 8;

struct PartsOfSums {
    Array<float, parts_of_sum, 32> part;
};

// The sum over slices `first`, `first + step`, ... of entry i. Eight loads are under way at a time.
DEVICE float sum_slices(Global<const float> partial, u32 slices, u64 count, u64 i, u32 first,
                        u32 step) {
    float sum = partial[first * count + i];
#pragma unroll 8
    for (u32 slice = first + step; slice < slices; slice += step) {
        sum += partial[slice * count + i];
    }
    return sum;
}

// Calls use(i, sum) for every entry i with wanted(i), each on one thread of a block of 256.
template <class Wanted, class Use>
DEVICE void for_sums(Global<const float> partial, u32 slices, u64 count, Wanted wanted, Use use) {
    if (slices <= few_slices) {
        for_entries(count, [&](u64 i) {
            if (wanted(i)) use(i, sum_slices(partial, slices, count, i, 0, 1));
        });
        return;
    }
    SHARED(PartsOfSums, sums);
    const u32 lane = threadIdx.x % 32, part = threadIdx.x / 32;
    const u64 step = static_cast<u64>(gridDim.x) * 32;
    for (u64 i0 = static_cast<u64>(blockIdx.x) * 32; i0 < count; i0 += step) {
        const u64 i = i0 + lane;
        const bool takes_part = i < count && wanted(i);
        if (takes_part) {
            sums.part[part][lane] = sum_slices(partial, slices, count, i, part, parts_of_sum);
        }
        __syncthreads();  // the parts are complete
        if (takes_part && part == 0) {
            float sum = sums.part[0][lane];
            for (u32 j = 1; j < parts_of_sum; ++j) sum += sums.part[j][lane];
            use(i, sum);
        }
        __syncthreads();  // nobody reads them any more
    }
}
