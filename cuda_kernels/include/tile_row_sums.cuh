// Beside a product by tile_product.cuh: the sums of its first operand's rows over the terms, from
// the tiles in shared memory. Of a weight gradient, those of the output's gradient: the bias's.
#pragma once

#include "tile_product.cuh"
#include "vector.cuh"

// Of an operand that lies along its rows. A warp takes a quarter of the tile's rows, a lane four
// neighbours of them (two where the tile has 64) in a share of the terms, `run` by `run`; its sums
// stay in registers. The shares are the same in every tile, and so are the bits.
//
//   32 rows of a warp        rows 0-3   4-7   ...   28-31
//     terms 0-3, 16-19       lane 0     1     ...   7        A load is, to half a warp, two
//     terms 4-7, 20-23       lane 8     9     ...   15       terms that the swizzle turns to
//     terms 8-11, 24-27      ...                             different banks.
//     terms 12-15, 28-31
template <class Entry>
struct RowSums {
    using Tile = OperandTile<Entry, false, tile_rows>;
    static constexpr u32 lanes_of_term = 8, shares = 32 / lanes_of_term;
    static constexpr u32 rows_of_warp = tile_rows / (threads / 32);
    static constexpr u32 neighbours = rows_of_warp / lanes_of_term;
    static constexpr u32 loads = depth_of_stage<Entry> / shares, run = loads < 4 ? loads : 4;

    float sum[neighbours] = {};

    // The first of this lane's rows, from the tile's first.
    static DEVICE u32 first_row() {
        return threadIdx.x / 32 * rows_of_warp + threadIdx.x % lanes_of_term * neighbours;
    }
    // Where they lie in the tile, of the i-th of this lane's terms.
    static DEVICE u32 place(u32 i) {
        constexpr u32 entries = entries_of_chunk<Entry>;
        const u32 term = threadIdx.x % 32 / lanes_of_term * run + i % run;
        return Tile::Lines::first(term, first_row() / entries) + first_row() % entries +
               i / run * run * shares * tile_rows;  // so far on the swizzle turns as it did
    }

    DEVICE void add(Tile& tile) {
#pragma unroll
        for (u32 i = 0; i < loads; ++i) {
            const auto* rows = &tile.lines.entries[place(i)];
            if constexpr (neighbours == 4) {
                const float4 four = load4(rows);
                sum[2] += four.z;
                sum[3] += four.w;
                add_two({four.x, four.y});
            } else {
                add_two(load2(rows));
            }
        }
    }

    DEVICE void add_two(float2 rows) {
        sum[0] += rows.x;
        sum[1] += rows.y;
    }

    // Overwrites out [rows], or adds to it. All threads of a warp take part.
    DEVICE void store(const Corner& corner, u32 rows, u32 accumulate, Global<float> out) const {
#pragma unroll
        for (u32 i = 0; i < neighbours; ++i) {
            float total = sum[i];
#pragma unroll
            for (u32 step = lanes_of_term; step < 32; step *= 2) {
                total += __shfl_xor_sync(0xFFFFFFFF, total, step);
            }
            const u32 row = corner.row + first_row() + i;
            if (threadIdx.x % 32 >= lanes_of_term || row >= rows) continue;
            out[row] = accumulate ? out[row] + total : total;
        }
    }
};
