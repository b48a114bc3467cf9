// Dropout: each entry is zero with probability `rate`, else divided by 1 - rate. The same random
// numbers are drawn again in the backward pass, so no mask is stored.
//
// Floor: one number read and one written an entry. The ten rounds of Philox are some 15 integer
// instructions an entry, below what the memory takes. T is the type of x and out, float or bf16.

#include "convert.cuh"
#include "dropout.cuh"
#include "grid.cuh"

// A thread draws the four words of one Philox block for the four entries that share it.
template <class T>
DEVICE void drop(Global<const T> x, Global<T> out, u64 count, const Dropout& dropout) {
    for_entries((count + 3) / 4, [&](u64 block) {
        const uint4 drawn = dropout.words(block);
        const u32 words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u64 i = 4 * block + j;
            if (i >= count) continue;
            out[i] = from_float<T>(dropout.dropped(words[j], to_float(x[i])));
        }
    });
}

KERNEL(dropout, 256, Global<const float> x, Global<const u32> rng, Global<float> out, u64 count,
       u32 layer, u32 threshold, float scale) {
    drop(x, out, count, {rng, layer, threshold, scale});
}

KERNEL(dropout_bf16, 256, Global<const bf16> x, Global<const u32> rng, Global<bf16> out, u64 count,
       u32 layer, u32 threshold, float scale) {
    drop(x, out, count, {rng, layer, threshold, scale});
}
