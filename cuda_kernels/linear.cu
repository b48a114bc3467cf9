// Fully connected layers, version 1: for any shape, on CUDA cores.
//
//   forward          out [N][O]         = x [N][I] weight [O][I]^T + bias, then ReLU and dropout,
//                                         if asked
//   input gradient   grad_x [N][I]      = grad [N][O] weight [O][I]
//   weight gradient  grad_weight [O][I] = grad [N][O]^T x [N][I], and grad_bias [O] = column sums
//                    of grad
//   bias gradient    grad_bias alone, where the weight is frozen
//
// All three products are c [rows][columns] = sum over k of a(row, k) b(column, k), where each
// operand is consecutive in memory either along k or along its rows. Floor: 2 N I O operations, and
// every matrix read or written once. A block computes 64x64 of c, 16 terms of the sum at a time:
//
//               16x16 threads, each 4x4 of c          a tile in shared memory, k down:
//    c  64 +--------------------+                      k 0  [ 64 rows | 4 unused ]
//          | 4x4 4x4 ...        |                      k 1  [ 64 rows | 4 unused ]
//          +--------------------+                      ...16 of them
//
// 16 multiplications for two 128-bit loads from shared memory: a quarter of a GPU's peak or so.
// Sums are float32, whatever the type of the operands. Logits may stay float32 where the operands
// are bf16 (linear_forward_wide).

#include "below.cuh"
#include "convert.cuh"
#include "dropout.cuh"
#include "epilogue.cuh"
#include "row_sums.cuh"
#include "shared.cuh"
#include "vector.cuh"

constexpr u32 threads = 256, edge = 64, depth_of_tile = 16;

using Tile = Array<float, depth_of_tile, edge + 4>;  // + 4: fewer bank conflicts, 16-byte rows

struct alignas(16) Tiles {
    Tile a, b;
};

// Rows [row0, row0 + 64) and terms [k0, k0 + 16) of an operand, zero beyond its end. Neighbouring
// threads read neighbouring addresses.
template <bool AlongK, class T>
DEVICE void load_tile(Tile& tile, Global<const T> operand, u32 rows, u32 depth, u32 row0, u32 k0) {
    for (u32 i = threadIdx.x; i < edge * depth_of_tile; i += threads) {
        const u32 row = AlongK ? i / depth_of_tile : i % edge;
        const u32 k = AlongK ? i % depth_of_tile : i / edge;
        const u64 r = row0 + row, t = k0 + k, at = AlongK ? r * depth + t : t * rows + r;
        tile[k][row] = r < rows && t < depth ? to_float(operand[at]) : 0.0F;
    }
}

struct Unwatched {
    DEVICE void operator()(Tile&) const {}
};

// Calls store(row, column, sum) for this thread's entries of c, and `watch` with every tile of a.
template <bool AAlongK, bool BAlongK, class T, class Store, class Watch = Unwatched>
DEVICE void product(Global<const T> a, Global<const T> b, u32 rows, u32 columns, u32 depth,
                    Store store, Watch watch = {}) {
    SHARED(Tiles, tiles);
    const u32 block_row = blockIdx.y * edge, block_column = blockIdx.x * edge;
    const u32 row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    float sum[4][4] = {};
    for (u32 k0 = 0; k0 < depth; k0 += depth_of_tile) {
        load_tile<AAlongK>(tiles.a, a, rows, depth, block_row, k0);
        load_tile<BAlongK>(tiles.b, b, columns, depth, block_column, k0);
        __syncthreads();  // the tiles are complete
#pragma unroll
        for (u32 k = 0; k < depth_of_tile; ++k) {
            const float4 x = load4(&tiles.a[k][row]), y = load4(&tiles.b[k][column]);
            const float of_a[4] = {x.x, x.y, x.z, x.w}, of_b[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
#pragma unroll
                for (u32 j = 0; j < 4; ++j) sum[i][j] = fmaf(of_a[i], of_b[j], sum[i][j]);
            }
        }
        watch(tiles.a);
        __syncthreads();  // nobody reads them any more
    }
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u32 r = block_row + row + i, c = block_column + column + j;
            if (r < rows && c < columns) store(r, c, sum[i][j]);
        }
    }
}

template <class T, class Out>
DEVICE void forward(Global<const T> x, Global<const T> weight, Global<const float> bias,
                    Global<Out> out, u32 n, u32 in, u32 o, u32 with_relu, const Dropout& dropout) {
    product<true, true>(x, weight, n, o, in, [&](u32 row, u32 column, float sum) {
        const u64 at = static_cast<u64>(row) * o + column;
        if (bias) sum += bias[column];
        if (with_relu) sum = relu(sum);
        out[at] = from_float<Out>(dropout.rng ? dropout.dropped_at(at, sum) : sum);
    });
}

KERNEL(linear_forward, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 in, u32 o, u32 with_relu,
       Global<const u32> rng, u32 layer, u32 threshold, float scale) {
    forward(x, weight, bias, out, n, in, o, with_relu, {rng, layer, threshold, scale});
}

KERNEL(linear_forward_bf16, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, u32 n, u32 in, u32 o, u32 with_relu,
       Global<const u32> rng, u32 layer, u32 threshold, float scale) {
    forward(x, weight, bias, out, n, in, o, with_relu, {rng, layer, threshold, scale});
}

KERNEL(linear_forward_wide_bf16, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 in, u32 o, u32 with_relu) {
    forward(x, weight, bias, out, n, in, o, with_relu, {});
}

template <class T>
DEVICE void input_gradient(Global<const T> grad, Global<const T> weight, Global<T> grad_x, u32 n,
                           u32 in, u32 o, const Below<T>& below) {
    product<true, false>(grad, weight, n, in, o, [&](u32 row, u32 column, float sum) {
        if (below.argmax) {
            unpool(below, window_of(below, row, column), grad_x, sum);
        } else {
            const u64 at = static_cast<u64>(row) * in + column;
            grad_x[at] = from_float<T>(below.masked(at, sum));
        }
    });
}

KERNEL(linear_input_gradient, threads, Global<const float> grad, Global<const float> weight,
       Global<float> grad_x, Global<const float> out, Global<const u8> argmax, u32 n, u32 in, u32 o,
       u32 h, u32 w, u32 c, u32 map_h, u32 map_w, float scale) {
    input_gradient(grad, weight, grad_x, n, in, o, {out, argmax, h, w, c, map_h, map_w, scale});
}

KERNEL(linear_input_gradient_bf16, threads, Global<const bf16> grad, Global<const bf16> weight,
       Global<bf16> grad_x, Global<const bf16> out, Global<const u8> argmax, u32 n, u32 in, u32 o,
       u32 h, u32 w, u32 c, u32 map_h, u32 map_w, float scale) {
    input_gradient(grad, weight, grad_x, n, in, o, {out, argmax, h, w, c, map_h, map_w, scale});
}

// Overwrites the gradients, or adds to them. They are float32 for the update, whatever the operands
// are. The bias's is left beside the product by the blocks of the first columns, unless it is null.
template <class T>
DEVICE void weight_gradient(Global<const T> x, Global<const T> grad, Global<float> grad_weight,
                            Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    const bool of_bias = grad_bias && blockIdx.x == 0;
    RowSum row_sum;
    product<false, false>(
        grad, x, o, in, n,
        [&](u32 row, u32 column, float sum) {
            float& entry = grad_weight[static_cast<u64>(row) * in + column];
            entry = accumulate ? entry + sum : sum;
        },
        [&](Tile& tile) {
            if (of_bias) row_sum.add(tile);
        });
    if (!of_bias) return;
    const u32 row = blockIdx.y * edge + RowSum::row();
    row_sum.store(row < o, accumulate, grad_bias + row);
}

KERNEL(linear_weight_gradient, threads, Global<const float> x, Global<const float> grad,
       Global<float> grad_weight, Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    weight_gradient(x, grad, grad_weight, grad_bias, n, in, o, accumulate);
}

KERNEL(linear_weight_gradient_bf16, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<float> grad_weight, Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    weight_gradient(x, grad, grad_weight, grad_bias, n, in, o, accumulate);
}

// A block sums 32 columns: thread (slice, lane) every eighth row of a column, a warp reading 32
// neighbours of a row at once; then one thread a column adds the eight slices, in order.
constexpr u32 slices = threads / 32;

struct Partial {
    Array<float, slices, 32> sum;
};

template <class T>
DEVICE void column_sums(Global<const T> grad, Global<float> grad_bias, u32 n, u32 o,
                        u32 accumulate) {
    SHARED(Partial, partial);
    const u32 lane = threadIdx.x % 32, slice = threadIdx.x / 32;
    const u32 column = blockIdx.x * 32 + lane;
    float sum = 0.0F;
    if (column < o) {
        for (u32 row = slice; row < n; row += slices) {
            sum += to_float(grad[static_cast<u64>(row) * o + column]);
        }
    }
    partial.sum[slice][lane] = sum;
    __syncthreads();
    if (slice > 0 || column >= o) return;
    sum = accumulate ? grad_bias[column] : 0.0F;
    for (u32 s = 0; s < slices; ++s) sum += partial.sum[s][lane];
    grad_bias[column] = sum;
}

KERNEL(linear_bias_gradient, threads, Global<const float> grad, Global<float> grad_bias, u32 n,
       u32 o, u32 accumulate) {
    column_sums(grad, grad_bias, n, o, accumulate);
}

KERNEL(linear_bias_gradient_bf16, threads, Global<const bf16> grad, Global<float> grad_bias, u32 n,
       u32 o, u32 accumulate) {
    column_sums(grad, grad_bias, n, o, accumulate);
}
