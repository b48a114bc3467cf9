// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <cstdint>

#include "parallel.hpp"

namespace fercore::FERCORE_LEVEL {

constexpr std::uint32_t dropout_stream = 0, augmentation_stream = 1;  // last word of a counter

// Turns `Lanes` counters, word by word, into as many random blocks of four words.
template <int Lanes>
inline void philox(std::uint32_t (&words)[4][Lanes], std::uint32_t key0, std::uint32_t key1) {
    for (int round = 0; round < 10; ++round) {
        for (int lane = 0; lane < Lanes; ++lane) {
            const std::uint64_t product0 = std::uint64_t{0xD2511F53} * words[0][lane];
            const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * words[2][lane];
            const std::uint32_t word1 = words[1][lane], word3 = words[3][lane];
            words[0][lane] = static_cast<std::uint32_t>(product1 >> 32) ^ word1 ^ key0;
            words[1][lane] = static_cast<std::uint32_t>(product1);
            words[2][lane] = static_cast<std::uint32_t>(product0 >> 32) ^ word3 ^ key1;
            words[3][lane] = static_cast<std::uint32_t>(product0);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

// Uniform in [0, 1), a multiple of 2**-24.
inline double uniform(std::uint32_t word) { return (word >> 8) * 0x1p-24; }

}  // namespace fercore::FERCORE_LEVEL
