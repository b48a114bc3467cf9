#include "kernels.hpp"
#include "philox.hpp"

namespace fercore::FERCORE_LEVEL {

void dropout(Index size, const float* x, const Random& random, double rate, std::uint32_t layer,
             float* out) {
    const float kept = static_cast<float>(1 / (1 - rate));
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
            for (Index i = 0; i < smaller(4 * blocks, end - first); ++i) {
                // A product, not a choice: dropped NaNs stay NaN.
                const float factor = uniform(words[i % 4][i / 4]) >= rate ? kept : 0.0F;
                out[first + i] = x[first + i] * factor;
            }
        }
    });
}

}  // namespace fercore::FERCORE_LEVEL
