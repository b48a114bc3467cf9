#include <cmath>

#include "kernels.hpp"
#include "philox.hpp"

namespace fercore::FERCORE_LEVEL {

void dropout(Index size, const float* x, const Random& random, double rate, std::uint32_t layer,
             float* out) {
    const float kept = static_cast<float>(1 / (1 - rate));
    // Entries with a word below it are dropped: uniform(word) >= rate, in whole numbers.
    const auto limit = static_cast<std::uint32_t>(std::ceil(rate * 0x1p24));
    constexpr int blocks = 32;  // of four entries each, at a time
    for_blocks(size, elements_a_block, [&](Index begin, Index end) {
        for (Index first = begin; first < end; first += 4 * blocks) {
            std::uint32_t words[4][blocks];
            for (int b = 0; b < blocks; ++b) {
                words[0][b] = static_cast<std::uint32_t>(first / 4 + b);
                words[1][b] = random.step;
                words[2][b] = layer;
                words[3][b] = dropout_stream;
            }
            philox(words, random.seed, random.run);
            float factors[4 * blocks];
            for (int b = 0; b < blocks; ++b) {
                for (int i = 0; i < 4; ++i) {
                    factors[4 * b + i] = words[i][b] >> 8 >= limit ? kept : 0.0F;
                }
            }
            const Index count = smaller(4 * blocks, end - first);
            // A product, not a choice: dropped NaNs stay NaN.
#pragma omp simd
            for (Index i = 0; i < count; ++i) out[first + i] = x[first + i] * factors[i];
        }
    });
}

}  // namespace fercore::FERCORE_LEVEL
