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

// out [rows][columns] = sums + bias, then ReLU if asked.
template <class T>
DEVICE void store_activations(const Corner& corner, u32 rows, u32 columns, Global<const float> bias,
                              u32 with_relu, Global<T> out, Sums& sum) {
    add_bias(corner, columns, bias, sum);
    for_pairs(
        corner, rows, columns, sum, [=](u32 row) { return static_cast<u64>(row) * columns; },
        [=](u64 at, float value, float next) {
            store2(out + at, with_relu ? relu(value) : value, with_relu ? relu(next) : next);
        });
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
