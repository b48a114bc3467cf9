// What a warp reads of a tile in shared memory and multiplies on tensor cores, in each precision.
//
// An operand's tile is some rows by 64 bytes of terms: 4 chunks of 16 bytes, each of 8 bf16 or of 4
// floats. 16 rows by two chunks are four 8x8 matrices of bf16 (8x4 of floats), and lane 4g + c has
// in the register of each
//
//   bf16   row g, terms 2c and 2c + 1: what mma_m16n8k16_bf16 takes
//   float  row g, term c: what mma_m16n8k8_tf32 takes
//
// The order of the terms is nobody's concern, if only it is the same in both operands. So the
// floats of four chunks, rounded to bf16 and paired, make the operands of mma_m16n8k16_bf16, too.
#pragma once

#include "convert.cuh"
#include "mma.cuh"
#include "swizzle.cuh"

constexpr u32 chunks_of_stage = 4;

template <class Entry>
constexpr u32 entries_of_chunk = 16 / sizeof(Entry);
template <class Entry>
constexpr u32 depth_of_stage = chunks_of_stage * entries_of_chunk<Entry>;

// Which of the four matrices is in which register: a, 16 rows of an mma, has the rows of a chunk
// next to each other, and b, 8 columns of each of two, the chunks of a column. (The same registers
// in another order would have to be moved.)
enum class Side { a, b };

DEVICE u32 half_of_rows(Side side, u32 matrix) { return side == Side::a ? matrix % 2 : matrix / 2; }
DEVICE u32 half_of_chunks(Side side, u32 matrix) {
    return side == Side::a ? matrix / 2 : matrix % 2;
}

// The tile as the operand lies in memory: row after row of consecutive terms, or (AlongK false)
// term after term of consecutive rows. `load` fetches the i-th 16 rows of a warp's part and two
// chunks of terms. All places where a lane reads are some steps away from a few, which do not
// change from stage to stage: place(side, row, n) is the n-th of them, if the part begins at `row`.
template <class Entry, bool AlongK, u32 Rows>
struct OperandTile;
template <class Tile>
struct Places;

template <class Entry, u32 Rows>
struct OperandTile<Entry, true, Rows> {
    using Lines = SwizzledTile<Entry, Rows, depth_of_stage<Entry>>;
    Lines lines;
    static constexpr u32 places = chunks_of_stage / 2;

    static DEVICE u32 place(Side side, u32 row, u32 n) {
        const u32 lane = threadIdx.x % 32, matrix = lane / 8;
        return Lines::first(row + 8 * half_of_rows(side, matrix) + lane % 8,
                            2 * n + half_of_chunks(side, matrix));
    }
    DEVICE void load(Side, u32 (&of)[4], const Places<OperandTile>& from, u32 i, u32 chunk) {
        ldmatrix(of, &lines.entries[from.at[chunk / 2] + 16 * i * depth_of_stage<Entry>]);
    }
};

template <u32 Rows>
struct OperandTile<bf16, false, Rows> {
    using Lines = SwizzledTile<bf16, depth_of_stage<bf16>, Rows>;
    Lines lines;
    static constexpr u32 places = 4;  // for each i: the swizzle turns all of them differently

    static DEVICE u32 place(Side side, u32 row, u32 n) {
        const u32 lane = threadIdx.x % 32, matrix = lane / 8;
        return Lines::first(8 * half_of_chunks(side, matrix) + lane % 8,
                            row / 8 + 2 * n + half_of_rows(side, matrix));
    }
    DEVICE void load(Side, u32 (&of)[4], const Places<OperandTile>& from, u32 i, u32 chunk) {
        ldmatrix_transposed(of, &lines.entries[from.at[i] + 8 * chunk * Rows]);
    }
};

template <u32 Rows>
struct OperandTile<float, false, Rows> {
    using Lines = SwizzledTile<float, depth_of_stage<float>, Rows, 2>;
    Lines lines;
    static constexpr u32 places = 4;  // 8 rows apart; the next 32 rows are turned as these are

    static DEVICE u32 place(Side, u32 row, u32 n) {
        const u32 lane = threadIdx.x % 32, column = row + 8 * n + lane / 4;
        return Lines::first(lane % 4, column / 4) + column % 4;
    }
    DEVICE void load(Side side, u32 (&of)[4], const Places<OperandTile>& from, u32 i, u32 chunk) {
#pragma unroll
        for (u32 matrix = 0; matrix < 4; ++matrix) {
            const u32 n = i % 2 * 2 + half_of_rows(side, matrix);
            const u32 term = 4 * (chunk + half_of_chunks(side, matrix));
            of[matrix] = __float_as_uint(lines.entries[from.at[n] + i / 2 * 32 + term * Rows]);
        }
    }
};

// Where this lane reads in every tile of an operand.
template <class Tile>
struct Places {
    u32 at[Tile::places];

    DEVICE Places(Side side, u32 row) {
#pragma unroll
        for (u32 n = 0; n < Tile::places; ++n) at[n] = kept(Tile::place(side, row, n));
    }
};

// -- precisions -----------------------------------------------------------------------------------

// 16 rows by the terms of an mma, in one or two numbers that add up.
template <u32 Parts>
struct Fragment {
    u32 of[Parts][4];
};

struct MmaBf16 {
    DEVICE void operator()(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) const {
        mma_m16n8k16_bf16(d, a, b);
    }
};

struct MmaTf32 {
    DEVICE void operator()(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) const {
        mma_m16n8k8_tf32(d, a, b);
    }
};

// sum [16][8 Count] += the parts `of_a` of 16 rows times the parts `of_b` of the columns.
template <u32 Parts, u32 Count, class Mma>
DEVICE void multiply_parts(float (&sum)[Count][4], const Fragment<Parts>& a, u32 of_a,
                           const Fragment<Parts> (&b)[Count / 2], u32 of_b, Mma mma) {
#pragma unroll
    for (u32 j = 0; j < Count; ++j) {
        const u32(&y)[4] = b[j / 2].of[of_b];
        const u32 columns[2] = {y[j % 2 * 2], y[j % 2 * 2 + 1]};
        mma(sum[j], a.of[of_a], columns);
    }
}

// Each has the type of its operands in memory, how many chunks of terms one step takes, how a
// tile's 16 rows are loaded, and the product of 16 rows with some columns.
struct Bf16 {
    using Entry = bf16;
    using Rows = Fragment<1>;
    static constexpr u32 chunks_of_step = 2;
    static DEVICE Side order(Side side) { return side; }

    template <class Tile>
    static DEVICE void load(Side side, Rows& rows, Tile& tile, const Places<Tile>& from, u32 i,
                            u32 chunk) {
        tile.load(side, rows.of[0], from, i, chunk);
    }
    template <u32 Count>
    static DEVICE void multiply(float (&sum)[Count][4], const Rows& a, const Rows (&b)[Count / 2]) {
        multiply_parts(sum, a, 0, b, 0, MmaBf16());
    }
};

struct Tf32 {
    using Entry = float;
    using Rows = Fragment<1>;
    static constexpr u32 chunks_of_step = 2;
    static DEVICE Side order(Side side) { return side; }

    template <class Tile>
    static DEVICE void load(Side side, Rows& rows, Tile& tile, const Places<Tile>& from, u32 i,
                            u32 chunk) {
        tile.load(side, rows.of[0], from, i, chunk);
#pragma unroll
        for (u32& entry : rows.of[0]) entry = to_tf32(__uint_as_float(entry));
    }
    template <u32 Count>
    static DEVICE void multiply(float (&sum)[Count][4], const Rows& a, const Rows (&b)[Count / 2]) {
        multiply_parts(sum, a, 0, b, 0, MmaTf32());
    }
};

// A float is, to 16 bits of its mantissa, the sum of two bf16: it rounded (part 0), and what is
// left (part 1). Of the four products that of the two rests is too small to count.
struct Bf16x3 {
    using Entry = float;
    using Rows = Fragment<2>;
    static constexpr u32 chunks_of_step = 4;
    static DEVICE Side order(Side) { return Side::b; }

    template <class Tile>
    static DEVICE void load(Side side, Rows& rows, Tile& tile, const Places<Tile>& from, u32 i,
                            u32 chunk) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 of[4];
            tile.load(Side::b, of, from, i, chunk + 2 * half);
#pragma unroll
            for (u32 n = 0; n < 2; ++n) {  // of the rows, too, a half
                const float x = __uint_as_float(of[2 * n]), y = __uint_as_float(of[2 * n + 1]);
                const u32 pair = pack_bf16(x, y);
                const u32 matrix = side == Side::a ? n + 2 * half : 2 * n + half;
                rows.of[0][matrix] = pair;
                rows.of[1][matrix] = pack_bf16(x - first_of(pair), y - second_of(pair));
            }
        }
    }
    template <u32 Count>
    static DEVICE void multiply(float (&sum)[Count][4], const Rows& a, const Rows (&b)[Count / 2]) {
#pragma unroll
        for (u32 i = 0; i < 3; ++i) {  // rest * whole, whole * rest, whole * whole
            multiply_parts(sum, a, i == 0, b, i == 1, MmaBf16());
        }
    }
};
