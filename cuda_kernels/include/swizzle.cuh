// A tile of bf16 in shared memory that ldmatrix reads without bank conflicts.
#pragma once

#include "convert.cuh"
#include "shared.cuh"

// Rows of chunks of 8 entries (16 bytes). Shared memory delivers 128 bytes, 8 chunks, at once, if
// they lie at 8 different places modulo 128 bytes. The 8 rows of one ldmatrix matrix ask for the
// same chunk each; so a row keeps chunk j at place j XOR (the number of its 128-byte line, mod 8).
//
//   64 columns:  row 0:  0 1 2 3 4 5 6 7      32 columns:  rows 0, 1:  0 1 2 3 | 0 1 2 3
//                row 1:  1 0 3 2 5 4 7 6                   rows 2, 3:  1 0 3 2 | 1 0 3 2
template <int Rows, int Columns>
struct alignas(16) SwizzledTile {
    Array<bf16, Rows, Columns> entries;

    DEVICE bf16* chunk(u32 row, u32 chunk) {
        constexpr u32 chunks = Columns / 8;
        constexpr u32 rows_of_line = chunks < 8 ? 8 / chunks : 1, places = chunks < 8 ? chunks : 8;
        return &entries[row][8 * (chunk ^ (row / rows_of_line % places))];
    }
};
