// Dropout: each entry is zero with probability `rate`, else divided by 1 - rate. The same random
// numbers are drawn again in the backward pass, so no mask is stored.
//
// Floor: one number read and one written an entry. The ten rounds of Philox are some 15 integer
// instructions an entry, below what the memory takes. T is the type of x and out, float or bf16.

#include "convert.cuh"
#include "grid.cuh"
#include "philox.cuh"

// A thread draws the four words of one Philox block for the four entries that share it. `rng` is
// seed, run, epoch, step. An entry is kept where the upper 24 bits of its word are not below
// `threshold`, which is rate * 2**24 rounded up: the comparison is exact for any rate.
template <class T>
DEVICE void drop(Global<const T> x, Global<const u32> rng, Global<T> out, u64 count, u32 layer,
                 u32 threshold, float scale) {
    const u32 seed = rng[0], run = rng[1], step = rng[3];
    for_entries((count + 3) / 4, [&](u64 block) {
        const uint4 drawn =
            philox({static_cast<u32>(block), step, layer, dropout_stream}, seed, run);
        const u32 words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u64 i = 4 * block + j;
            if (i >= count) continue;
            out[i] = from_float<T>(words[j] >> 8 >= threshold ? to_float(x[i]) * scale : 0.0F);
        }
    });
}

KERNEL(dropout, 256, Global<const float> x, Global<const u32> rng, Global<float> out, u64 count,
       u32 layer, u32 threshold, float scale) {
    drop(x, rng, out, count, layer, threshold, scale);
}

KERNEL(dropout_bf16, 256, Global<const bf16> x, Global<const u32> rng, Global<bf16> out, u64 count,
       u32 layer, u32 threshold, float scale) {
    drop(x, rng, out, count, layer, threshold, scale);
}
