#include "gemm.hpp"

#ifdef FERCORE_OPENBLAS
#define BLAS_SYMBOL_PREFIX scipy_
#include <cblas.h>

namespace fercore::FERCORE_LEVEL {

void gemm(Index m, Index n, Index k, const Matrix& a, const Matrix& b, float* c, Index pitch) {
    const auto order = [](const Matrix& x) { return x.transposed ? CblasTrans : CblasNoTrans; };
    const auto size = [](Index x) { return static_cast<int>(x); };
    scipy_cblas_sgemm(CblasRowMajor, order(a), order(b), size(m), size(n), size(k), 1.0F, a.data,
                      size(a.pitch), b.data, size(b.pitch), 0.0F, c, size(pitch));
}

}  // namespace fercore::FERCORE_LEVEL

#else

#include "product.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index block_depth = 512;  // steps of k at a time: a panel of b stays in the L2 cache

// `count` lines of a matrix in panels of `width`, zeros past the last: out[panel][k][j] is entry
// (k, j) if the lines are columns, (j, k) if `by_rows`.
void pack(const Matrix& x, bool by_rows, Index k0, Index depth, Index first, Index count,
          Index width, float* out) {
    // Across the lines, or along k, memory is consecutive.
    const bool lines_consecutive = x.transposed == by_rows;
    for (Index j0 = 0; j0 < count; j0 += width, out += depth * width) {
        const Index real = smaller(width, count - j0);
        const Index line = first + j0;
        if (lines_consecutive) {
            for (Index k = 0; k < depth; ++k) {
                const float* from = x.data + (k0 + k) * x.pitch + line;
                for (Index j = 0; j < real; ++j) out[k * width + j] = from[j];
                for (Index j = real; j < width; ++j) out[k * width + j] = 0;
            }
            continue;
        }
        constexpr Index group = 16;  // streams read side by side
        for (Index g = 0; g < width; g += group) {
            const Index end = smaller(width, g + group), last = larger(g, smaller(end, real));
            const float* from = x.data + line * x.pitch + k0;
            for (Index k = 0; k < depth; ++k) {
                for (Index j = g; j < last; ++j) out[k * width + j] = from[j * x.pitch + k];
                for (Index j = last; j < end; ++j) out[k * width + j] = 0;
            }
        }
    }
}

}  // namespace

void gemm(Index m, Index n, Index k, const Matrix& a, const Matrix& b, float* c, Index pitch) {
    const Tile& tile = choose_tile(m, n);
    const Index deepest = smaller(k, block_depth);
    float* rows = scratch<float>(Slot::packed, round_up(m, tile.rows) * deepest);
    float* panel = scratch<float>(Slot::panels, deepest * tile.columns);
    float* map = scratch<float>(Slot::map, tile.rows * tile.columns);
    for (Index k0 = 0; k0 < k; k0 += block_depth) {
        const Index depth = smaller(block_depth, k - k0);
        pack(a, true, k0, depth, 0, m, tile.rows, rows);
        for (Index j0 = 0; j0 < n; j0 += tile.columns) {
            const Index columns = smaller(tile.columns, n - j0);
            pack(b, false, k0, depth, j0, columns, tile.columns, panel);
            for (Index i0 = 0; i0 < m; i0 += tile.rows) {
                tile.product(1, depth, {rows + i0 * depth, 1, tile.rows, 0},
                             {panel, 1, tile.columns, 0}, map, false);
                for (Index i = 0; i < smaller(tile.rows, m - i0); ++i) {
                    float* to = c + (i0 + i) * pitch + j0;
                    const float* from = map + i * tile.columns;
                    for (Index j = 0; j < columns; ++j) to[j] = k0 > 0 ? to[j] + from[j] : from[j];
                }
            }
        }
    }
}

}  // namespace fercore::FERCORE_LEVEL

#endif
