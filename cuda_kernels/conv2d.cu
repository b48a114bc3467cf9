// Convolutions in fp32 on CUDA cores, version 1: for any shape, kernel, stride and padding.
//
//   forward          out [N][P][Q][O]           = x [N][H][W][C] * weight [O][KH][KW][C] + bias
//   input gradient   grad_x [N][H][W][C]        from grad [N][P][Q][O] and weight
//   weight gradient  grad_weight [O][KH][KW][C] from x and grad;   bias gradient  grad_bias [O]
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

#include "epilogue.cuh"
#include "grid.cuh"
#include "shared.cuh"
#include "vector.cuh"

constexpr u32 threads = 256, edge = 64, depth_of_tile = 16;
constexpr u32 passes = edge * depth_of_tile / threads;  // entries of a tile that a thread loads

using Tile = Array<float, depth_of_tile, edge + 4>;  // + 4: fewer bank conflicts, 16-byte rows

struct alignas(16) Tiles {
    Tile a, b;
};

// -- operands -------------------------------------------------------------------------------------

// A convolution's sizes, as they are named above.
struct Sizes {
    u32 n, h, w, c, o, kh, kw, p, q, stride, padding;

    DEVICE u32 pixels() const { return n * p * q; }
    DEVICE u32 taps() const { return kh * kw * c; }
};

// What a row or a term adds to an entry's offset in memory, and to its place in the image.
struct Place {
    i64 offset;
    i32 y, x;
};
// Outside of any image, whatever is added.
DEVICE Place nowhere() { return {0, -(1 << 30), 0}; }

// Entry (row, k) of an operand lies where the places of the row and of the term add up to; it is 0
// outside of the image, which is the padding. A matrix is an image of one pixel.
template <class RowPlace, class TermPlace>
struct Operand {
    Global<const float> data;
    u32 height, width;
    RowPlace row;    // place of the i-th row
    TermPlace term;  // and of the k-th term

    DEVICE float at(const Place& a, const Place& b) const {
        const bool inside =
            static_cast<u32>(a.y + b.y) < height && static_cast<u32>(a.x + b.x) < width;
        return inside ? data[a.offset + b.offset] : 0.0F;
    }
};
template <class RowPlace, class TermPlace>
Operand(Global<const float>, u32, u32, RowPlace, TermPlace) -> Operand<RowPlace, TermPlace>;

// The i-th of `count` rows or terms of a matrix, `step` entries apart.
DEVICE Place line(u32 i, u32 count, u32 step) {
    return i < count ? Place{static_cast<i64>(i) * step, 0, 0} : nowhere();
}

// Where the patch of x begins from which pixel (p, q) of image n is computed.
DEVICE Place patch(const Sizes& s, u32 n, u32 p, u32 q) {
    const i32 y = static_cast<i32>(p * s.stride) - static_cast<i32>(s.padding);
    const i32 x = static_cast<i32>(q * s.stride) - static_cast<i32>(s.padding);
    return {((static_cast<i64>(n) * s.h + y) * s.w + x) * s.c, y, x};
}

DEVICE Place patch_of_pixel(const Sizes& s, u32 i) {
    if (i >= s.pixels()) return nowhere();
    return patch(s, i / s.q / s.p, i / s.q % s.p, i % s.q);
}

// The same with the four pixels of each 2x2 window next to each other; those at odd edges are in
// no window.
DEVICE Place patch_by_windows(const Sizes& s, u32 i) {
    const u32 rows = s.p / 2, columns = s.q / 2, window = i / 4;
    if (window >= s.n * rows * columns) return nowhere();
    return patch(s, window / columns / rows, window / columns % rows * 2 + i / 2 % 2,
                 window % columns * 2 + i % 2);
}

DEVICE Place tap(const Sizes& s, u32 i) {
    if (i >= s.taps()) return nowhere();
    const u32 ky = i / s.c / s.kw, kx = i / s.c % s.kw;
    return {(static_cast<i64>(ky) * s.w + kx) * s.c + i % s.c, static_cast<i32>(ky),
            static_cast<i32>(kx)};
}

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

// Adds the terms from k0 to before k1 to `sum`, four rows for each of four columns. Terms in the
// last tile beyond k1 have to be nowhere.
template <bool AAlongK, bool BAlongK, class A, class B>
DEVICE void product(const A& a, const B& b, const Corner& corner, u32 k0, u32 k1,
                    float (&sum)[4][4]) {
    SHARED(Tiles, tiles);
    const u32 row = corner.row % edge, column = corner.column % edge;
    const Loader<AAlongK, A> of_a(a, corner.row - row);
    const Loader<BAlongK, B> of_b(b, corner.column - column);
    for (u32 k = k0; k < k1; k += depth_of_tile) {
        of_a.load(tiles.a, k);
        of_b.load(tiles.b, k);
        __syncthreads();  // the tiles are complete
#pragma unroll
        for (u32 t = 0; t < depth_of_tile; ++t) {
            const float4 u = load4(&tiles.a[t][row]), v = load4(&tiles.b[t][column]);
            const float rows[4] = {u.x, u.y, u.z, u.w}, columns[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) sum[j][i] = fmaf(rows[i], columns[j], sum[j][i]);
            }
        }
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

template <class PatchPlace>
DEVICE void forward(Global<const float> x, Global<const float> weight, const Sizes& s,
                    const Corner& corner, float (&sum)[4][4], PatchPlace patch_place) {
    const Operand patches{x, s.h, s.w, patch_place, [&](u32 k) { return tap(s, k); }};
    const Operand kernels{weight, 1, 1, [&](u32 i) { return line(i, s.o, s.taps()); },
                          [&](u32 k) { return line(k, s.taps(), 1); }};
    product<true, true>(patches, kernels, corner, 0, s.taps(), sum);
}

KERNEL(conv2d_forward, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    const Sizes s = {n, h, w, c, o, kh, kw, p, q, stride, padding};
    const Corner corner(o);
    float sum[4][4] = {};
    forward(x, weight, s, corner, sum, [&](u32 i) { return patch_of_pixel(s, i); });
    store_all(corner, s.pixels(), o, sum, [&](u32 pixel, u32 column, float value) {
        if (bias) value += bias[column];
        out[static_cast<u64>(pixel) * o + column] = with_relu ? relu(value) : value;
    });
}

// A NaN is larger than any number.
DEVICE bool is_larger(float a, float b) { return a > b || (a != a && b == b); }

// ReLU and a 2x2 max-pool: a thread's four rows are one window, so the map before stays in
// registers. `argmax` is 2 dy + dx of the first largest entry.
KERNEL(conv2d_forward_pool, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    const Sizes s = {n, h, w, c, o, kh, kw, p, q, stride, padding};
    const Corner corner(o);
    float sum[4][4] = {};
    forward(x, weight, s, corner, sum, [&](u32 i) { return patch_by_windows(s, i); });
    const u32 window = corner.row / 4;
    if (window >= n * (p / 2) * (q / 2)) return;
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        const u32 column = corner.column + j;
        if (column >= o) return;
        const float of_channel = bias ? bias[column] : 0.0F;
        float largest = sum[j][0] + of_channel;
        u32 place = 0;
#pragma unroll
        for (u32 i = 1; i < 4; ++i) {
            const float value = sum[j][i] + of_channel;
            if (is_larger(value, largest)) {
                largest = value;
                place = i;
            }
        }
        const u64 at = static_cast<u64>(window) * o + column;
        out[at] = relu(largest);
        if (argmax) argmax[at] = static_cast<u8>(place);
    }
}

// -- input gradient -------------------------------------------------------------------------------

// Pixel y of x was read through tap ky by output pixel (y + padding - ky) / stride, if that is
// whole. So the pixels with the same (y + padding) % stride, a phase, share their taps: those with
// ky = phase + stride * j. They are a dense problem of their own, in which output pixel g - j meets
// tap j, g being (y + padding) / stride. One axis of it:
struct Phase {
    u32 first, count, taps;  // its first pixel of x, its pixels, and its taps
    i32 g;                   // of the first pixel

    DEVICE Phase(u32 phase, u32 size, u32 kernel, u32 stride, u32 padding) {
        first = (phase + stride - padding % stride) % stride;
        count = first < size ? (size - first + stride - 1) / stride : 0;
        taps = phase < kernel ? (kernel - phase + stride - 1) / stride : 0;
        g = static_cast<i32>((first + padding) / stride);
    }
};

KERNEL(conv2d_input_gradient, threads, Global<const float> grad, Global<const float> weight,
       Global<float> grad_x, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q,
       u32 stride, u32 padding) {
    const u32 phase_y = blockIdx.y / stride, phase_x = blockIdx.y % stride;
    const Phase down(phase_y, h, kh, stride, padding), across(phase_x, w, kw, stride, padding);
    const u32 rows = n * down.count * across.count, depth = down.taps * across.taps * o;
    const Corner corner(c);
    float sum[4][4] = {};
    const Operand gradients{grad, p, q,
                            [&](u32 i) {
                                if (i >= rows) return nowhere();
                                const i32 y =
                                    down.g + static_cast<i32>(i / across.count % down.count);
                                const i32 x = across.g + static_cast<i32>(i % across.count);
                                const i64 image = i / across.count / down.count;
                                return Place{((image * p + y) * q + x) * o, y, x};
                            },
                            [&](u32 k) {
                                if (k >= depth) return nowhere();
                                const i32 y = -static_cast<i32>(k / o / across.taps);
                                const i32 x = -static_cast<i32>(k / o % across.taps);
                                return Place{(static_cast<i64>(y) * q + x) * o + k % o, y, x};
                            }};
    const Operand kernels{weight, 1, 1, [&](u32 i) { return line(i, c, 1); },
                          [&](u32 k) {
                              if (k >= depth) return nowhere();
                              const u32 ky = phase_y + k / o / across.taps * stride;
                              const u32 kx = phase_x + k / o % across.taps * stride;
                              const i64 kernel = static_cast<i64>(k % o) * kh + ky;
                              return Place{(kernel * kw + kx) * c, 0, 0};
                          }};
    product<true, false>(gradients, kernels, corner, 0, depth, sum);
    store_all(corner, rows, c, sum, [&](u32 row, u32 channel, float value) {
        const u32 y = down.first + row / across.count % down.count * stride;
        const u32 x = across.first + row % across.count * stride;
        const u64 image = row / across.count / down.count;
        grad_x[((image * h + y) * w + x) * c + channel] = value;
    });
}

// -- weight and bias gradient ---------------------------------------------------------------------

// Pixels are many and results few, so each block takes a slice of the pixels, and the partial sums
// [slices][...] are added in order by conv2d_sum_slices. A slice is a multiple of 16 pixels.
KERNEL(conv2d_weight_gradient, threads, Global<const float> x, Global<const float> grad,
       Global<float> partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q,
       u32 stride, u32 padding, u32 slice) {
    const Sizes s = {n, h, w, c, o, kh, kw, p, q, stride, padding};
    const Corner corner(s.taps());
    float sum[4][4] = {};
    const Operand gradients{grad, 1, 1, [&](u32 i) { return line(i, o, 1); },
                            [&](u32 k) { return line(k, s.pixels(), o); }};
    const Operand patches{x, h, w, [&](u32 i) { return tap(s, i); },
                          [&](u32 k) { return patch_of_pixel(s, k); }};
    const u32 k0 = blockIdx.y * slice;
    product<false, false>(gradients, patches, corner, k0, min(k0 + slice, s.pixels()), sum);
    store_all(corner, o, s.taps(), sum, [&](u32 row, u32 column, float value) {
        partial[(static_cast<u64>(blockIdx.y) * o + row) * s.taps() + column] = value;
    });
}

// A block sums 32 columns over a slice of the rows: thread (part, lane) every eighth row of a
// column, a warp reading 32 neighbours at once; then a thread a column adds the parts, in order.
constexpr u32 parts = threads / 32;

struct ColumnParts {
    Array<float, parts, 32> sum;
};

KERNEL(conv2d_bias_gradient, threads, Global<const float> grad, Global<float> partial, u32 pixels,
       u32 o, u32 slice) {
    SHARED(ColumnParts, shared);
    const u32 lane = threadIdx.x % 32, part = threadIdx.x / 32;
    const u32 column = blockIdx.x * 32 + lane, end = min(blockIdx.y * slice + slice, pixels);
    float sum = 0.0F;
    if (column < o) {
        for (u32 pixel = blockIdx.y * slice + part; pixel < end; pixel += parts) {
            sum += grad[static_cast<u64>(pixel) * o + column];
        }
    }
    shared.sum[part][lane] = sum;
    __syncthreads();
    if (part > 0 || column >= o) return;
    sum = 0.0F;
    for (u32 i = 0; i < parts; ++i) sum += shared.sum[i][lane];
    partial[static_cast<u64>(blockIdx.y) * o + column] = sum;
}

KERNEL(conv2d_sum_slices, threads, Global<const float> partial, Global<float> out, u64 count,
       u32 slices) {
    for_entries(count, [&](u64 i) {
        float sum = 0.0F;
        for (u32 slice = 0; slice < slices; ++slice) sum += partial[slice * count + i];
        out[i] = sum;
    });
}

// -- the gradient before ReLU and pooling ---------------------------------------------------------

// A thread owns a window in a channel and writes its four entries; at odd edges windows are cut
// off, pooled nothing, and are 0. `out` and `argmax` are what conv2d_forward_pool wrote.
KERNEL(conv2d_pool_gradient, threads, Global<const float> grad, Global<const float> out,
       Global<const u8> argmax, Global<float> grad_before, u32 n, u32 p, u32 q, u32 o) {
    const u32 down = (p + 1) / 2, across = (q + 1) / 2;
    for_entries(static_cast<u64>(n) * down * across * o, [&](u64 i) {
        const u32 window = static_cast<u32>(i / o), channel = static_cast<u32>(i % o);
        const u32 y = window / across % down, x = window % across;
        const u64 image = window / across / down;
        float value = 0.0F;
        u32 place = 0;
        if (y < p / 2 && x < q / 2) {
            const u64 at = ((image * (p / 2) + y) * (q / 2) + x) * o + channel;
            if (out[at] > 0.0F) value = grad[at];
            place = argmax[at];
        }
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            const u32 row = 2 * y + j / 2, column = 2 * x + j % 2;
            if (row >= p || column >= q) continue;
            grad_before[((image * p + row) * q + column) * o + channel] = j == place ? value : 0.0F;
        }
    });
}
