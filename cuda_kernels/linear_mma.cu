// Fully connected layers, version 2: bf16 products on tensor cores (sm_80 and up).
//
// The same three products as in linear.cu, c [rows][columns] = sum over k of a(row, k) b(column,
// k), where I and O are multiples of 8, so that every 16-byte copy is whole. Floor: 2 N I O
// operations at the tensor cores' rate, every matrix moved once.
//
//   block    128x128 of c by 4 warps, 32 terms of the sum at a time; three such stages of a and b
//            in shared memory (48 KB), so that two are on their way while one is used
//   warp     64x64 of c: 4x8 products of 16x8, 128 sums in the registers of each thread; one step
//            of 16 terms is 8 ldmatrix for 32 mma
//   copies   16 bytes by cp.async straight to shared memory, swizzled against bank conflicts
//
// mma.sync reaches about 63 % of a Hopper's peak; the rest needs wgmma.

#include "async_copy.cuh"
#include "convert.cuh"
#include "epilogue.cuh"
#include "mma.cuh"
#include "swizzle.cuh"
#include "vector.cuh"

constexpr u32 threads = 128, edge = 128, depth_of_stage = 32, stages = 3, warp_edge = 64;

// 128 rows and 32 terms of an operand as they lie in memory: row after row of consecutive terms, or
// (AlongK false) term after term of consecutive rows.
template <bool AlongK>
struct OperandTile;

template <>
struct OperandTile<true> {
    SwizzledTile<edge, depth_of_stage> rows;

    DEVICE void copy(Global<const bf16> operand, u32 count, u32 depth, u32 row0, u32 k0) {
        constexpr u32 chunks = depth_of_stage / 8;
#pragma unroll
        for (u32 pass = 0; pass < edge * chunks / threads; ++pass) {
            const u32 i = pass * threads + threadIdx.x, row = row0 + i / chunks;
            const u32 k = k0 + i % chunks * 8;
            copy_async<16>(rows.chunk(i / chunks, i % chunks),
                           operand + (static_cast<u64>(row) * depth + k), row < count && k < depth);
        }
    }

    // The 16 rows from `row` and 16 terms from `k` as four 8x8 matrices, those with the same terms
    // (`rows_first`) or those with the same rows next to each other.
    DEVICE void load(u32 (&matrices)[4], u32 row, u32 k, bool rows_first) {
        const u32 lane = threadIdx.x % 32, inner = lane / 8 % 2, outer = lane / 16;
        ldmatrix(matrices, rows.chunk(row + lane % 8 + 8 * (rows_first ? inner : outer),
                                      k / 8 + (rows_first ? outer : inner)));
    }
};

template <>
struct OperandTile<false> {
    SwizzledTile<depth_of_stage, edge> terms;

    DEVICE void copy(Global<const bf16> operand, u32 count, u32 depth, u32 row0, u32 k0) {
        constexpr u32 chunks = edge / 8;
#pragma unroll
        for (u32 pass = 0; pass < depth_of_stage * chunks / threads; ++pass) {
            const u32 i = pass * threads + threadIdx.x, k = k0 + i / chunks;
            const u32 row = row0 + i % chunks * 8;
            copy_async<16>(terms.chunk(i / chunks, i % chunks),
                           operand + (static_cast<u64>(k) * count + row), row < count && k < depth);
        }
    }

    DEVICE void load(u32 (&matrices)[4], u32 row, u32 k, bool rows_first) {
        const u32 lane = threadIdx.x % 32, inner = lane / 8 % 2, outer = lane / 16;
        ldmatrix_transposed(matrices, terms.chunk(k + lane % 8 + 8 * (rows_first ? outer : inner),
                                                  row / 8 + (rows_first ? inner : outer)));
    }
};

template <bool AAlongK, bool BAlongK>
struct alignas(16) Stage {
    OperandTile<AAlongK> a;
    OperandTile<BAlongK> b;
};

template <bool AAlongK, bool BAlongK>
struct alignas(128) Stages {
    Stage<AAlongK, BAlongK> stage[stages];
};

// Calls store(row, column, sum, next) for pairs of neighbouring columns of this thread's part of c.
template <bool AAlongK, bool BAlongK, class Store>
DEVICE void product(Global<const bf16> a, Global<const bf16> b, u32 rows, u32 columns, u32 depth,
                    Store store) {
    using Pipeline = Stages<AAlongK, BAlongK>;
    SHARED(Pipeline, shared);
    const u32 block_row = blockIdx.y * edge, block_column = blockIdx.x * edge;
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 warp_row = warp / 2 * warp_edge, warp_column = warp % 2 * warp_edge;

    const u32 steps = (depth + depth_of_stage - 1) / depth_of_stage;
    // Beyond the last step there is nothing to copy, but a group is counted all the same.
    const auto prefetch = [&](u32 step) {
        if (step < steps) {
            auto& stage = shared.stage[step % stages];
            stage.a.copy(a, rows, depth, block_row, step * depth_of_stage);
            stage.b.copy(b, columns, depth, block_column, step * depth_of_stage);
        }
        commit_copies();
    };

    float sum[4][8][4] = {};  // 16x8 products down and across, four entries of each
    for (u32 step = 0; step + 1 < stages; ++step) prefetch(step);
    for (u32 step = 0; step < steps; ++step) {
        wait_for_copies<stages - 2>();  // this step's own copies have arrived
        __syncthreads();                // everybody's have, and nobody reads the stage before
        prefetch(step + stages - 1);    // which is the one that is refilled here
        auto& stage = shared.stage[step % stages];
#pragma unroll
        for (u32 k = 0; k < depth_of_stage; k += 16) {
            u32 of_a[4][4], of_b[4][4];
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                stage.a.load(of_a[i], warp_row + 16 * i, k, true);
                stage.b.load(of_b[i], warp_column + 16 * i, k, false);
            }
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
#pragma unroll
                for (u32 j = 0; j < 8; ++j) {
                    const u32 pair[2] = {of_b[j / 2][j % 2 * 2], of_b[j / 2][j % 2 * 2 + 1]};
                    mma_m16n8k16_bf16(sum[i][j], of_a[i], pair);
                }
            }
        }
    }

#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            const u32 row = block_row + warp_row + 16 * i + lane / 4;
            const u32 column = block_column + warp_column + 8 * j + lane % 4 * 2;
            if (column >= columns) continue;
            if (row < rows) store(row, column, sum[i][j][0], sum[i][j][1]);
            if (row + 8 < rows) store(row + 8, column, sum[i][j][2], sum[i][j][3]);
        }
    }
}

KERNEL(linear_forward_bf16_mma, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, u32 n, u32 in, u32 o, u32 with_relu) {
    product<true, true>(x, weight, n, o, in, [&](u32 row, u32 column, float sum, float next) {
        if (bias) {
            sum += bias[column];
            next += bias[column + 1];
        }
        store2(out + (static_cast<u64>(row) * o + column), with_relu ? relu(sum) : sum,
               with_relu ? relu(next) : next);
    });
}

KERNEL(linear_input_gradient_bf16_mma, threads, Global<const bf16> grad, Global<const bf16> weight,
       Global<bf16> grad_x, u32 n, u32 in, u32 o) {
    product<true, false>(grad, weight, n, in, o, [&](u32 row, u32 column, float sum, float next) {
        store2(grad_x + (static_cast<u64>(row) * in + column), sum, next);
    });
}

KERNEL(linear_weight_gradient_bf16_mma, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<float> grad_weight, u32 n, u32 in, u32 o, u32 accumulate) {
    product<false, false>(grad, x, o, in, n, [&](u32 row, u32 column, float sum, float next) {
        const u64 i = static_cast<u64>(row) * in + column;
        if (accumulate) {
            sum += grad_weight[i];
            next += grad_weight[i + 1];
        }
        store2(grad_weight + i, sum, next);
    });
}
