// Loops over fixed blocks, shared out among threads. Part of the kernels: compiled per level.
#pragma once

#include "runtime.hpp"

namespace fercore::FERCORE_LEVEL {

constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
constexpr Index larger(Index a, Index b) { return a < b ? b : a; }
constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

// body(begin, end) for [0, size) in blocks of `block`.
template <class Body>
void for_blocks(Index size, Index block, const Body& body) {
    const Index blocks = ceil_div(size, block);
#pragma omp parallel for schedule(static) num_threads(threads()) if (blocks > 1)
    for (Index b = 0; b < blocks; ++b) body(b * block, smaller(size, (b + 1) * block));
}

// Blocks of a sum over `rows` rows: few enough that adding up their parts costs nothing.
inline Index rows_a_block(Index rows) { return larger(256, ceil_div(rows, 64)); }

constexpr Index elements_a_block = 1 << 14;  // of elementwise work: 64 KiB, in the L2 cache

}  // namespace fercore::FERCORE_LEVEL
