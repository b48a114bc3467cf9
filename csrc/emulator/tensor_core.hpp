// mma.sync and ldmatrix, carried out for a whole warp with the register layouts of the PTX ISA
// ("Warp Level Matrix Instructions"). In all of them lane L has group g = L / 4, place c = L % 4.
#pragma once

#include "emulator.hpp"

namespace emulator {

// d [16][8] = a [16][Depth] b [Depth][8] + d, in float32, a term after the other.
template <u32 Depth>
void multiply(const float (&a)[16][Depth], const float (&b)[Depth][8], float (&d)[16][8]) {
    for (u32 i = 0; i < 16; ++i) {
        for (u32 k = 0; k < Depth; ++k) {
            for (u32 j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
        }
    }
}

struct MmaLane {
    float* d;
    const u32 *a, *b;
};

// Row and column of register `i` of d: d0, d1 in row g, d2, d3 in row g + 8, columns 2c, 2c + 1.
template <class Move>
void for_accumulators(Move move) {
    for (u32 lane = 0; lane < lanes; ++lane) {
        for (u32 i = 0; i < 4; ++i) move(lane, i, lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
    }
}

template <u32 Depth, class Unpack>
void mma(MmaLane* const* lane, Unpack unpack) {
    float a[16][Depth], b[Depth][8], d[16][8];
    for (u32 l = 0; l < lanes; ++l) unpack(*lane[l], l / 4, l % 4, a, b);
    for_accumulators([&](u32 l, u32 i, u32 row, u32 column) { d[row][column] = lane[l]->d[i]; });
    multiply<Depth>(a, b, d);
    for_accumulators([&](u32 l, u32 i, u32 row, u32 column) { lane[l]->d[i] = d[row][column]; });
}

// A bf16 is the upper half of a float; a register holds two, the first in its lower half. Register
// i of a: row g + 8 (i % 2), columns 2c + 8 (i / 2) on; register i of b: rows 2c + 8 i on, column
// g.
inline void mma_bf16(MmaLane* const* lane) {
    mma<16>(lane, [](const MmaLane& from, u32 g, u32 c, auto& a, auto& b) {
        for (u32 i = 0; i < 4; ++i) {
            const u32 row = g + i % 2 * 8, column = 2 * c + i / 2 * 8;
            a[row][column] = __uint_as_float(from.a[i] << 16);
            a[row][column + 1] = __uint_as_float(from.a[i] & 0xFFFF0000);
        }
        for (u32 i = 0; i < 2; ++i) {
            b[2 * c + 8 * i][g] = __uint_as_float(from.b[i] << 16);
            b[2 * c + 8 * i + 1][g] = __uint_as_float(from.b[i] & 0xFFFF0000);
        }
    });
}

// The tensor core reads a tf32 as a float whose low 13 bits it ignores. Register i of a: row
// g + 8 (i % 2), column c + 4 (i / 2); register i of b: row c + 4 i, column g.
inline void mma_tf32(MmaLane* const* lane) {
    mma<8>(lane, [](const MmaLane& from, u32 g, u32 c, auto& a, auto& b) {
        constexpr u32 kept = 0xFFFFE000;
        for (u32 i = 0; i < 4; ++i) {
            a[g + i % 2 * 8][c + i / 2 * 4] = __uint_as_float(from.a[i] & kept);
        }
        for (u32 i = 0; i < 2; ++i) b[c + 4 * i][g] = __uint_as_float(from.b[i] & kept);
    });
}

struct LdmatrixLane {
    u32* registers;
    const void* row;
};

// Matrix m of 8x8 bf16 has its row r at the address that lane 8 m + r gives. Register m of a lane
// is entries (g, 2c) and (g, 2c + 1), or (2c, g) and (2c + 1, g) of the same matrix if transposed.
template <u32 Matrices, bool Transposed>
void ldmatrix(LdmatrixLane* const* lane) {
    for (u32 m = 0; m < Matrices; ++m) {
        u16 matrix[8][8];
        for (u32 r = 0; r < 8; ++r) std::memcpy(matrix[r], lane[8 * m + r]->row, 16);
        for (u32 l = 0; l < lanes; ++l) {
            const u32 g = l / 4, c = l % 4 * 2;
            const u16 low = Transposed ? matrix[c][g] : matrix[g][c];
            const u16 high = Transposed ? matrix[c + 1][g] : matrix[g][c + 1];
            lane[l]->registers[m] = low | u32{high} << 16;
        }
    }
}

template <u32 Matrices, bool Transposed>
void ldmatrix(u32 (&registers)[Matrices], const void* row, const Where& where) {
    LdmatrixLane mine{registers, row};
    if (machine.current % lanes < 8 * Matrices) {  // the addresses of other lanes are not used
        if (reinterpret_cast<u64>(row) % 16 != 0) fail(where, "a row not aligned to 16 bytes");
        read_shared(static_cast<const u16*>(row), 8, where);
    }
    collective(mine, ldmatrix<Matrices, Transposed>, where);
}

}  // namespace emulator

inline void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                              emulator::Where where = emulator::Where::current()) {
    emulator::MmaLane mine{d, a, b};
    emulator::collective(mine, emulator::mma_bf16, where);
}

inline void mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                             emulator::Where where = emulator::Where::current()) {
    emulator::MmaLane mine{d, a, b};
    emulator::collective(mine, emulator::mma_tf32, where);
}

template <int Matrices>
void ldmatrix(u32 (&registers)[Matrices], const void* row,
              emulator::Where where = emulator::Where::current()) {
    emulator::ldmatrix<Matrices, false>(registers, row, where);
}

template <int Matrices>
void ldmatrix_transposed(u32 (&registers)[Matrices], const void* row,
                         emulator::Where where = emulator::Where::current()) {
    emulator::ldmatrix<Matrices, true>(registers, row, where);
}
