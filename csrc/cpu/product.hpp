// The small matrix product inside every convolution and fully connected layer.
//
//     c[i][j] (+)= sum over s, k of a(i, s, k) * b(j, s, k)
//
// for a tile of c that fits in the registers. Both operands are read where they lie: `a` one entry
// at a time (broadcast), `b` a row of consecutive entries at a time; k counts steps within a
// segment. A convolution's sums are such products without any im2col copy: a segment is a kernel
// row, whose pixels and channels are consecutive in NHWC. Part of the kernels: compiled per level.
#pragma once

#include "parallel.hpp"
#include "vectors.hpp"

namespace fercore::FERCORE_LEVEL {

struct Operand {
    const float* data;
    Index entry;    // from one row of the tile to the next (a only; b's columns are consecutive)
    Index step;     // from one k to the next
    Index segment;  // from one segment to the next
};

// c is a contiguous tile [Rows][Vectors * lanes]; it is added to if `add`, else overwritten.
template <int Rows, int Vectors>
void product(Index segments, Index steps, Operand a, Operand b, float* c, bool add) {
    Vector sum[Rows][Vectors] = {};
    for (Index s = 0; s < segments; ++s) {
        const float* a_k = a.data + s * a.segment;
        const float* b_k = b.data + s * b.segment;
        for (Index k = 0; k < steps; ++k, a_k += a.step, b_k += b.step) {
            Vector row[Vectors];
            for (int j = 0; j < Vectors; ++j) {
                row[j] = *reinterpret_cast<const Vector*>(b_k + j * lanes);
            }
            for (int i = 0; i < Rows; ++i) {
                const Vector entry = a_k[i * a.entry] - Vector{};  // broadcast
                for (int j = 0; j < Vectors; ++j) sum[i][j] += entry * row[j];
            }
        }
    }
    for (int i = 0; i < Rows; ++i) {
        for (int j = 0; j < Vectors; ++j) {
            auto* tile = reinterpret_cast<Vector*>(c + (i * Vectors + j) * lanes);
            *tile = add ? *tile + sum[i][j] : sum[i][j];
        }
    }
}

struct Tile {
    Index rows, columns;
    double speed;  // measured, relative to the fastest
    void (*product)(Index segments, Index steps, Operand a, Operand b, float* c, bool add);
};

template <int Rows, int Vectors>
constexpr Tile tile(double speed) {
    return {Rows, Vectors * lanes, speed, product<Rows, Vectors>};
}

#if defined(__AVX512F__) || defined(__aarch64__)  // 32 vector registers, else 16
constexpr Tile tiles[] = {tile<6, 4>(1), tile<8, 3>(1), tile<12, 2>(1), tile<8, 1>(0.75)};
#else
constexpr Tile tiles[] = {tile<4, 3>(1), tile<6, 2>(1), tile<12, 1>(0.65)};
#endif

constexpr Index max_tile_columns = 4 * lanes;

// The tile that computes a `rows x columns` map in the shortest time, what it overhangs included.
inline const Tile& choose_tile(Index rows, Index columns) {
    const Tile* best = tiles;
    double best_time = 0;
    for (const Tile& tile : tiles) {
        const double time =
            double(round_up(rows, tile.rows) * round_up(columns, tile.columns)) / tile.speed;
        if (best_time == 0 || time < best_time) {
            best = &tile;
            best_time = time;
        }
    }
    return *best;
}

}  // namespace fercore::FERCORE_LEVEL
