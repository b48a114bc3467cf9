// Which entries dropout keeps. The same random numbers can be drawn again, so no mask is stored.
#pragma once

#include "philox.cuh"

// Each entry is zero with some probability, else `scale` times what it was. `rng` is seed, run,
// epoch, step; null where nothing is dropped. Entries are counted as they lie in memory: the four
// words of one Philox block decide four of them. One is kept where the upper 24 bits of its word
// are not below `threshold`, which is the probability * 2**24 rounded up: the comparison is exact.
struct Dropout {
    Global<const u32> rng;
    u32 layer, threshold;
    float scale;

    DEVICE uint4 words(u64 block) const {
        return philox({static_cast<u32>(block), rng[3], layer, dropout_stream}, rng[0], rng[1]);
    }
    DEVICE bool keeps(u32 word) const { return word >> 8 >= threshold; }
    DEVICE float dropped(u32 word, float value) const { return keeps(word) ? value * scale : 0.0F; }

    // Entry i by itself.
    DEVICE float dropped_at(u64 i, float value) const {
        const uint4 drawn = words(i / 4);
        const u32 low = i % 2 == 0 ? drawn.x : drawn.y, high = i % 2 == 0 ? drawn.z : drawn.w;
        return dropped(i % 4 < 2 ? low : high, value);
    }
    // Whether entries i, which is even, and i + 1 are kept: the lowest two bits.
    DEVICE u32 keeps_pair(u64 i) const {
        const uint4 drawn = words(i / 4);
        const bool first = keeps(i % 4 == 0 ? drawn.x : drawn.z);
        const bool second = keeps(i % 4 == 0 ? drawn.y : drawn.w);
        return static_cast<u32>(first) | static_cast<u32>(second) << 1;
    }
};
