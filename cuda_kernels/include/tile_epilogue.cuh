// What becomes of the sums of tile_product.cuh.
#pragma once

#include "epilogue.cuh"
#include "tile_product.cuh"
#include "vector.cuh"

// The first row and column of c that a thread has sums of: rows 8 apart, pairs of columns 8 apart.
DEVICE u32 first_row(const Corner& corner) {
    return corner.row + Corner::warp_row() + threadIdx.x % 32 / 4;
}
DEVICE u32 first_column(const Corner& corner) {
    return corner.column + Corner::warp_column() + threadIdx.x % 4 * 2;
}

// Calls use(offset_of(row) + column, sum, next) for pairs of neighbouring columns of this thread.
// An offset is a number, or whatever a column can be added to.
template <class OffsetOf, class Use>
DEVICE void for_pairs(const Corner& corner, u32 rows, u32 columns, const Sums& sum,
                      OffsetOf offset_of, Use use) {
#pragma unroll
    for (u32 i = 0; i < warp_rows / 8; ++i) {
        const u32 row = first_row(corner) + 8 * i;
        if (row >= rows) continue;
        const auto offset = offset_of(row);
#pragma unroll
        for (u32 j = 0; j < warp_columns / 8; ++j) {
            const u32 column = first_column(corner) + 8 * j;
            const float* pair = &sum[i / 2][j][i % 2 * 2];
            if (column < columns) use(offset + column, pair[0], pair[1]);
        }
    }
}

// Rows that a thread has together: entry 0 to 3 of group g are rows r, r + 8, r + 16 and r + 24.
DEVICE u32 group_of_row(u32 row) { return row / 32 * 8 + row % 8; }
DEVICE u32 entry_of_row(u32 row) { return row / 8 % 4; }

// Calls use(group * columns + column, sums) for this thread's groups of rows.
template <class Use>
DEVICE void for_groups(const Corner& corner, u32 groups, u32 columns, const Sums& sum, Use use) {
#pragma unroll
    for (u32 i = 0; i < warp_rows / 16; i += 2) {
        const u32 group = group_of_row(first_row(corner) + 16 * i);
        if (group >= groups) continue;
#pragma unroll
        for (u32 j = 0; j < warp_columns / 4; ++j) {
            const u32 column = first_column(corner) + j / 2 * 8 + j % 2;
            const float (&first)[4] = sum[i][j / 2], (&second)[4] = sum[i + 1][j / 2];
            const float sums[4] = {first[j % 2], first[j % 2 + 2], second[j % 2],
                                   second[j % 2 + 2]};
            if (column < columns) use(static_cast<u64>(group) * columns + column, sums);
        }
    }
}

DEVICE void add_bias(const Corner& corner, u32 columns, Global<const float> bias, Sums& sum) {
    if (!bias) return;
#pragma unroll
    for (u32 j = 0; j < warp_columns / 4; ++j) {
        const u32 column = first_column(corner) + j / 2 * 8 + j % 2;
        const float add = column < columns ? bias[column] : 0.0F;
#pragma unroll
        for (u32 i = 0; i < warp_rows / 16; ++i) {
            sum[i][j / 2][j % 2] += add;
            sum[i][j / 2][j % 2 + 2] += add;
        }
    }
}

DEVICE void apply_relu(Sums& sum) {
#pragma unroll
    for (auto& row : sum) {
#pragma unroll
        for (auto& product : row) {
#pragma unroll
            for (float& value : product) value = relu(value);
        }
    }
}

// x of four neighbouring lanes as the rows of a matrix, turned over: two exchanges of what lies on
// the wrong side of the diagonal, in 2x2 blocks and then between them.
//
//   lane 0   00 01 02 03        00 10 20 30
//   lane 1   10 11 12 13   ->   01 11 21 31
//   lane 2   20 21 22 23        02 12 22 32
//   lane 3   30 31 32 33        03 13 23 33
DEVICE void transpose_quad(u32 (&x)[4]) {
#pragma unroll
    for (u32 step = 1; step < 4; step *= 2) {
        const bool below = threadIdx.x & step;
#pragma unroll
        for (u32 n = 0; n < 2; ++n) {
            u32 &left = x[n * (3 - step)], &right = x[n * (3 - step) + step];
            const u32 received = __shfl_xor_sync(0xFFFFFFFF, below ? left : right, step);
            left = below ? received : left;
            right = below ? right : received;
        }
    }
}

// out [rows][columns] = sums, 64 bytes of a row by four lanes, which have two neighbouring columns
// in every eight of it, and store one eight each. Columns are whole eights (tensor_cores.py).
DEVICE void store_rows(const Corner& corner, u32 rows, u32 columns, Global<bf16> out,
                       const Sums& sum) {
    static_assert(warp_columns % 32 == 0);
#pragma unroll
    for (u32 i = 0; i < warp_rows / 8; ++i) {
        const u32 row = first_row(corner) + 8 * i;
#pragma unroll
        for (u32 j = 0; j < warp_columns / 8; j += 4) {
            u32 pairs[4];
#pragma unroll
            for (u32 n = 0; n < 4; ++n) {
                const float* pair = &sum[i / 2][j + n][i % 2 * 2];
                pairs[n] = pack_bf16(pair[0], pair[1]);
            }
            transpose_quad(pairs);
            const u32 column = corner.column + Corner::warp_column() + 8 * (j + threadIdx.x % 4);
            if (row < rows && column < columns) {
                store8(out + (static_cast<u64>(row) * columns + column), pairs);
            }
        }
    }
}

// The same for floats, of which four lanes have 32 bytes of a row.
DEVICE void store_rows(const Corner& corner, u32 rows, u32 columns, Global<float> out,
                       const Sums& sum) {
    for_pairs(
        corner, rows, columns, sum, [=](u32 row) { return static_cast<u64>(row) * columns; },
        [=](u64 at, float value, float next) { store2(out + at, value, next); });
}

// out [rows][columns] = sums + bias, then ReLU if asked.
template <class T>
DEVICE void store_activations(const Corner& corner, u32 rows, u32 columns, Global<const float> bias,
                              u32 with_relu, Global<T> out, Sums& sum) {
    add_bias(corner, columns, bias, sum);
    if (with_relu) apply_relu(sum);
    store_rows(corner, rows, columns, out, sum);
}

// Overwrites out [rows][columns], or adds to it.
DEVICE void store_gradient(const Corner& corner, u32 rows, u32 columns, u32 accumulate,
                           Global<float> out, const Sums& sum) {
    for_pairs(
        corner, rows, columns, sum, [=](u32 row) { return static_cast<u64>(row) * columns; },
        [=](u64 at, float value, float next) {
            store2(out + at, accumulate ? out[at] + value : value,
                   accumulate ? out[at + 1] + next : next);
        });
}
