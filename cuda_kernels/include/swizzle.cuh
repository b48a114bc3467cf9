// A tile in shared memory that is read without bank conflicts.
#pragma once

#include "convert.cuh"
#include "shared.cuh"

// Rows of chunks of 16 bytes. Shared memory delivers 128 bytes, 8 chunks, at once, if they lie at 8
// different places modulo 128 bytes. The 8 rows of one ldmatrix matrix ask for the same chunk each;
// so a row keeps chunk j at place j XOR (the number of its 128-byte line, mod 8).
//
//   8 chunks:  row 0:  0 1 2 3 4 5 6 7      4 chunks:  rows 0, 1:  0 1 2 3 | 0 1 2 3
//              row 1:  1 0 3 2 5 4 7 6                 rows 2, 3:  1 0 3 2 | 1 0 3 2
//
// Turn 2, where a warp reads 8 neighbouring floats (two chunks) of each of four rows: XOR twice
// that number.
template <class T, int Rows, int Columns, int Turn = 1>
struct alignas(16) SwizzledTile {
    Array<T, Rows * Columns> entries;

    static constexpr u32 entries_of_chunk = 16 / sizeof(T);

    // Where a chunk begins.
    static DEVICE u32 first(u32 row, u32 chunk) {
        constexpr u32 chunks = Columns / entries_of_chunk;
        constexpr u32 rows_of_line = chunks < 8 ? 8 / chunks : 1, places = chunks < 8 ? chunks : 8;
        const u32 place = chunk ^ (row / rows_of_line * Turn % places);
        return row * Columns + place * entries_of_chunk;
    }
};
