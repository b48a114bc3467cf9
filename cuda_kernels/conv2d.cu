// Convolutions on CUDA cores, version 1: for any shape, kernel, stride and padding.
//
//   forward          out [N][P][Q][O]           = x [N][H][W][C] * weight [O][KH][KW][C] + bias
//   input gradient   grad_x [N][H][W][C]        from grad [N][P][Q][O] and weight
//   weight gradient  grad_weight [O][KH][KW][C] and grad_bias [O] from x and grad
//   bias gradient    grad_bias alone, where the weight is frozen
//   pool gradient    grad [N][P][Q][O]          from that after ReLU and a 2x2 max-pool
//
// Each convolution is a matrix product, c [rows][columns] = sum over k of a(row, k) b(column, k),
// whose operands are gathered while they are loaded ("implicit GEMM"): nothing is unfolded in
// memory. A tap is an entry (ky, kx, channel) of the kernel, a pixel one of the output.
//
//                      rows            columns   k
//   forward            pixels          O         taps
//   input gradient     pixels of x     C         taps, with an output channel for the input's
//   weight gradient    O               taps      pixels
//
// Floor of each: 2 N P Q O KH KW C operations, every tensor read or written once. The bias gradient
// and the pool gradient do next to nothing with what they read: bytes over the copy rate.
//
// A block of 16x16 threads computes 64x64 of c, 16 terms at a time through two tiles in shared
// memory; a thread owns 4x4 of them in registers: 16 multiplications for two 128-bit loads.
//
// T is the type of x, weight, the map and their gradients in memory, float or bf16; sums, the bias
// and the gradients of parameters are float.

#include "convert.cuh"
#include "convolution.cuh"
#include "grid.cuh"
#include "row_sums.cuh"
#include "shared.cuh"
#include "sliced_sums.cuh"
#include "vector.cuh"

constexpr u32 threads = 256, edge = 64, depth_of_tile = 16;
constexpr u32 passes = edge * depth_of_tile / threads;  // entries of a tile that a thread loads

using Tile = Array<float, depth_of_tile, edge + 4>;  // + 4: fewer bank conflicts, 16-byte rows

struct alignas(16) Tiles {
    Tile a, b;
};

// An operand (see place.cuh) by the places of its rows and of its terms.
template <class T, class RowPlace, class TermPlace>
struct Operand {
    Global<const T> data;
    Image image;
    RowPlace row;    // place of the i-th row
    TermPlace term;  // and of the k-th term

    DEVICE float at(const Place& a, const Place& b) const {
        const Place at = a + b;
        return image.contains(at) ? to_float(data[at.offset]) : 0.0F;
    }
};
template <class T, class RowPlace, class TermPlace>
Operand(Global<const T>, Image, RowPlace, TermPlace) -> Operand<T, RowPlace, TermPlace>;

// -- the product ----------------------------------------------------------------------------------

// A thread's share of an operand's tiles. Neighbouring threads load neighbouring terms (AlongK) or
// neighbouring rows, whichever are neighbours in memory; the places of its rows stay in registers.
template <bool AlongK, class Operand>
struct Loader {
    const Operand& operand;
    Place rows[AlongK ? passes : 1];

    DEVICE Loader(const Operand& operand, u32 row0) : operand(operand) {
#pragma unroll
        for (u32 i = 0; i < (AlongK ? passes : 1); ++i) rows[i] = operand.row(row0 + row(i));
    }

    static DEVICE u32 row(u32 pass) {
        return AlongK ? (pass * threads + threadIdx.x) / depth_of_tile : threadIdx.x % edge;
    }
    static DEVICE u32 term(u32 pass) {
        return AlongK ? threadIdx.x % depth_of_tile : (pass * threads + threadIdx.x) / edge;
    }

    DEVICE void load(Tile& tile, u32 k0) const {
        Place place = operand.term(k0 + term(0));
#pragma unroll
        for (u32 pass = 0; pass < passes; ++pass) {
            if (!AlongK && pass > 0) place = operand.term(k0 + term(pass));
            tile[term(pass)][row(pass)] = operand.at(rows[AlongK ? pass : 0], place);
        }
    }
};

// The first row and column of what this thread owns of c; blocks next to each other share rows.
struct Corner {
    u32 row, column;

    DEVICE explicit Corner(u32 columns) {
        const u32 across = (columns + edge - 1) / edge;
        row = blockIdx.x / across * edge + threadIdx.x / 16 * 4;
        column = blockIdx.x % across * edge + threadIdx.x % 16 * 4;
    }
};

struct Unwatched {
    DEVICE void operator()(Tile&) const {}
};

// Adds the terms from k0 to before k1 to `sum`, four rows for each of four columns. Terms in the
// last tile beyond k1 have to be nowhere. `watch` is called with every tile of a.
template <bool AAlongK, bool BAlongK, class A, class B, class Watch = Unwatched>
DEVICE void product(const A& a, const B& b, const Corner& corner, u32 k0, u32 k1,
                    float (&sum)[4][4], Watch watch = {}) {
    SHARED(Tiles, tiles);
    const u32 row = corner.row % edge, column = corner.column % edge;
    const Loader<AAlongK, A> of_a(a, corner.row - row);
    const Loader<BAlongK, B> of_b(b, corner.column - column);
    for (u32 k = k0; k < k1; k += depth_of_tile) {
        of_a.load(tiles.a, k);
        of_b.load(tiles.b, k);
        __syncthreads();  // the tiles are complete
        // Eight at a time: with the loads of all 16 ahead there are too few registers.
#pragma unroll 8
        for (u32 t = 0; t < depth_of_tile; ++t) {
            const float4 u = load4(&tiles.a[t][row]), v = load4(&tiles.b[t][column]);
            const float rows[4] = {u.x, u.y, u.z, u.w}, columns[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) sum[j][i] = fmaf(rows[i], columns[j], sum[j][i]);
            }
        }
        watch(tiles.a);
        __syncthreads();  // nobody reads them any more
    }
}

// Calls store(row, column, sum) for this thread's entries of c.
template <class Store>
DEVICE void store_all(const Corner& corner, u32 rows, u32 columns, const float (&sum)[4][4],
                      Store store) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u32 row = corner.row + i, column = corner.column + j;
            if (row < rows && column < columns) store(row, column, sum[j][i]);
        }
    }
}

// -- forward --------------------------------------------------------------------------------------

template <class T, class PatchPlace>
DEVICE void convolve(Global<const T> x, Global<const T> weight, const Sizes& s,
                     const Corner& corner, float (&sum)[4][4], PatchPlace patch_place) {
    const Operand patches{x, Image{s.h, s.w}, patch_place, [&](u32 k) { return tap_of(s, k); }};
    const Operand kernels{weight, Image{}, [&](u32 i) { return line(i, s.o, s.taps()); },
                          [&](u32 k) { return line(k, s.taps(), 1); }};
    product<true, true>(patches, kernels, corner, 0, s.taps(), sum);
}

template <class T>
DEVICE void forward(Global<const T> x, Global<const T> weight, Global<const float> bias,
                    Global<T> out, const Sizes& s, u32 with_relu) {
    const Corner corner(s.o);
    float sum[4][4] = {};
    convolve(x, weight, s, corner, sum, [&](u32 i) { return patch_of_pixel(s, i); });
    store_all(corner, s.pixels(), s.o, sum, [&](u32 pixel, u32 column, float value) {
        if (bias) value += bias[column];
        out[static_cast<u64>(pixel) * s.o + column] =
            from_float<T>(with_relu ? relu(value) : value);
    });
}

KERNEL(conv2d_forward, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    forward(x, weight, bias, out, {n, h, w, c, o, kh, kw, p, q, stride, padding}, with_relu);
}

KERNEL(conv2d_forward_bf16, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    forward(x, weight, bias, out, {n, h, w, c, o, kh, kw, p, q, stride, padding}, with_relu);
}

// ReLU and a 2x2 max-pool: a thread's four rows are one window, so the map before stays in
// registers. `argmax` is 2 dy + dx of the first largest entry.
template <class T>
DEVICE void forward_pool(Global<const T> x, Global<const T> weight, Global<const float> bias,
                         Global<T> out, Global<u8> argmax, const Sizes& s) {
    const Corner corner(s.o);
    float sum[4][4] = {};
    convolve(x, weight, s, corner, sum, [&](u32 i) { return patch_of_window(s, i / 4, i % 4); });
    const u32 window = corner.row / 4;
    if (window >= s.windows()) return;
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        const u32 column = corner.column + j;
        if (column >= s.o) return;
        const float add = bias ? bias[column] : 0.0F;
        const float window_sums[4] = {sum[j][0] + add, sum[j][1] + add, sum[j][2] + add,
                                      sum[j][3] + add};
        const Pooled pooled(window_sums);
        const u64 at = static_cast<u64>(window) * s.o + column;
        out[at] = from_float<T>(pooled.value);
        if (argmax) argmax[at] = pooled.place;
    }
}

KERNEL(conv2d_forward_pool, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    forward_pool(x, weight, bias, out, argmax, {n, h, w, c, o, kh, kw, p, q, stride, padding});
}

KERNEL(conv2d_forward_pool_bf16, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    forward_pool(x, weight, bias, out, argmax, {n, h, w, c, o, kh, kw, p, q, stride, padding});
}

// -- input gradient -------------------------------------------------------------------------------

// The digits of a term: tap down, tap across, output channel.
template <class T>
DEVICE void input_gradient(Global<const T> grad, Global<const T> weight, Global<T> grad_x,
                           const Sizes& s, const Below<T>& below) {
    const Phases phases(s, blockIdx.y);
    const u32 rows = phases.rows(), depth = phases.depth(), across = phases.across.taps;
    const Corner corner(s.c);
    float sum[4][4] = {};
    const Operand gradients{grad, Image{s.p, s.q}, [&](u32 i) { return phases.row_in_grad(i); },
                            [&](u32 k) {
                                if (k >= depth) return nowhere();
                                return phases.term_in_grad(k / s.o / across, k / s.o % across,
                                                           k % s.o);
                            }};
    const Operand kernels{weight, Image{}, [&](u32 i) { return line(i, s.c, 1); },
                          [&](u32 k) {
                              if (k >= depth) return nowhere();
                              return phases.term_in_weight(k / s.o / across, k / s.o % across,
                                                           k % s.o);
                          }};
    product<true, false>(gradients, kernels, corner, 0, depth, sum);
    store_all(corner, rows, s.c, sum, [&](u32 row, u32 channel, float value) {
        if (below.argmax) {
            unpool(below, phases.row_in_map(below, row) + channel, grad_x, value);
        } else {
            const u64 at = phases.row_in_x(row) + channel;
            grad_x[at] = from_float<T>(below.masked(at, value));
        }
    });
}

KERNEL(conv2d_input_gradient, threads, Global<const float> grad, Global<const float> weight,
       Global<float> grad_x, Global<const float> out, Global<const u8> argmax, u32 n, u32 h, u32 w,
       u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 map_h, u32 map_w) {
    input_gradient(grad, weight, grad_x, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                   {out, argmax, h, w, c, map_h, map_w});
}

KERNEL(conv2d_input_gradient_bf16, threads, Global<const bf16> grad, Global<const bf16> weight,
       Global<bf16> grad_x, Global<const bf16> out, Global<const u8> argmax, u32 n, u32 h, u32 w,
       u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 map_h, u32 map_w) {
    input_gradient(grad, weight, grad_x, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                   {out, argmax, h, w, c, map_h, map_w});
}

// -- weight and bias gradient ---------------------------------------------------------------------

// Pixels are many and results few, so each block takes a slice of the pixels, and the partial sums
// [slices][...] are added in order: by conv2d_sum_slices, or by the update that they are for. A
// slice is a multiple of 16 pixels. Where there is but one, `partial` is the gradient itself, and
// sums may be added to what is there.
//
// The gradient of the bias is the sums of grad itself: those of its 64 channels are left beside the
// product by a block of the first columns, unless `bias_partial` is null.
template <class T>
DEVICE void weight_gradient(Global<const T> x, Global<const T> grad, Global<float> partial,
                            Global<float> bias_partial, const Sizes& s, u32 slice, u32 accumulate) {
    const Corner corner(s.taps());
    const bool of_bias = bias_partial && corner.column < edge;
    float sum[4][4] = {};
    RowSum row_sum;
    const Operand gradients{grad, Image{}, [&](u32 i) { return line(i, s.o, 1); },
                            [&](u32 k) { return line(k, s.pixels(), s.o); }};
    const Operand patches{x, Image{s.h, s.w}, [&](u32 i) { return tap_of(s, i); },
                          [&](u32 k) { return patch_of_pixel(s, k); }};
    const u32 k0 = blockIdx.y * slice;
    product<false, false>(gradients, patches, corner, k0, min(k0 + slice, s.pixels()), sum,
                          [&](Tile& tile) {
                              if (of_bias) row_sum.add(tile);
                          });
    store_all(corner, s.o, s.taps(), sum, [&](u32 row, u32 column, float value) {
        const u64 at = (static_cast<u64>(blockIdx.y) * s.o + row) * s.taps() + column;
        partial[at] = accumulate ? partial[at] + value : value;
    });
    if (!of_bias) return;
    const u32 row = corner.row / edge * edge + RowSum::row();
    row_sum.store(row < s.o, accumulate, bias_partial + (blockIdx.y * s.o + row));
}

KERNEL(conv2d_weight_gradient, threads, Global<const float> x, Global<const float> grad,
       Global<float> partial, Global<float> bias_partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 slice, u32 accumulate) {
    weight_gradient(x, grad, partial, bias_partial, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                    slice, accumulate);
}

KERNEL(conv2d_weight_gradient_bf16, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<float> partial, Global<float> bias_partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 slice, u32 accumulate) {
    weight_gradient(x, grad, partial, bias_partial, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                    slice, accumulate);
}

// A block sums 32 columns over a slice of the rows: thread (part, lane) every eighth row of a
// column, a warp reading 32 neighbours at once; then a thread a column adds the parts, in order.
constexpr u32 parts = threads / 32;

struct ColumnParts {
    Array<float, parts, 32> sum;
};

template <class T>
DEVICE void bias_gradient(Global<const T> grad, Global<float> partial, u32 pixels, u32 o, u32 slice,
                          u32 accumulate) {
    SHARED(ColumnParts, shared);
    const u32 lane = threadIdx.x % 32, part = threadIdx.x / 32;
    const u32 column = blockIdx.x * 32 + lane, end = min(blockIdx.y * slice + slice, pixels);
    float sum = 0.0F;
    if (column < o) {
        for (u32 pixel = blockIdx.y * slice + part; pixel < end; pixel += parts) {
            sum += to_float(grad[static_cast<u64>(pixel) * o + column]);
        }
    }
    shared.sum[part][lane] = sum;
    __syncthreads();
    if (part > 0 || column >= o) return;
    const u64 at = static_cast<u64>(blockIdx.y) * o + column;
    sum = accumulate ? partial[at] : 0.0F;
    for (u32 i = 0; i < parts; ++i) sum += shared.sum[i][lane];
    partial[at] = sum;
}

KERNEL(conv2d_bias_gradient, threads, Global<const float> grad, Global<float> partial, u32 pixels,
       u32 o, u32 slice, u32 accumulate) {
    bias_gradient(grad, partial, pixels, o, slice, accumulate);
}

KERNEL(conv2d_bias_gradient_bf16, threads, Global<const bf16> grad, Global<float> partial,
       u32 pixels, u32 o, u32 slice, u32 accumulate) {
    bias_gradient(grad, partial, pixels, o, slice, accumulate);
}

KERNEL(conv2d_sum_slices, threads, Global<const float> partial, Global<float> out, u64 count,
       u32 slices, u32 accumulate) {
    for_sums(
        partial, slices, count, [](u64) { return true; },
        [&](u64 i, float sum) { out[i] = accumulate ? out[i] + sum : sum; });
}

// -- the gradient before ReLU and pooling ---------------------------------------------------------

// A thread owns a window in a channel and writes its four entries; at odd edges windows are cut
// off, pooled nothing, and are 0. `out` and `argmax` are what conv2d_forward_pool wrote.
template <class T>
DEVICE void pool_gradient(Global<const T> grad, Global<const T> out, Global<const u8> argmax,
                          Global<T> grad_before, u32 n, u32 p, u32 q, u32 o) {
    const u32 down = (p + 1) / 2, across = (q + 1) / 2;
    for_entries(static_cast<u64>(n) * down * across * o, [&](u64 i) {
        const u32 window = static_cast<u32>(i / o), channel = static_cast<u32>(i % o);
        const u32 y = window / across % down, x = window % across;
        const u64 image = window / across / down;
        T value = from_float<T>(0.0F);
        u32 place = 0;
        if (y < p / 2 && x < q / 2) {
            const u64 at = ((image * (p / 2) + y) * (q / 2) + x) * o + channel;
            if (to_float(out[at]) > 0.0F) value = grad[at];
            place = argmax[at];
        }
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u32 row = 2 * y + j / 2, column = 2 * x + j % 2;
            if (row >= p || column >= q) continue;
            grad_before[((image * p + row) * q + column) * o + channel] =
                j == place ? value : from_float<T>(0.0F);
        }
    });
}

KERNEL(conv2d_pool_gradient, threads, Global<const float> grad, Global<const float> out,
       Global<const u8> argmax, Global<float> grad_before, u32 n, u32 p, u32 q, u32 o) {
    pool_gradient(grad, out, argmax, grad_before, n, p, q, o);
}

KERNEL(conv2d_pool_gradient_bf16, threads, Global<const bf16> grad, Global<const bf16> out,
       Global<const u8> argmax, Global<bf16> grad_before, u32 n, u32 p, u32 q, u32 o) {
    pool_gradient(grad, out, argmax, grad_before, n, p, q, o);
}
