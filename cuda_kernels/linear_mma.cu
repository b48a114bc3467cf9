// Fully connected layers, version 2: products on tensor cores (sm_80 and up), in bf16, tf32,
// bf16x3.
//
// The same three products as in linear.cu, where rows of matrices are whole chunks of 16 bytes (8
// bf16 or 4 floats), so that every copy is whole. Floor: 2 N I O operations at the tensor cores'
// rate (three times as many for bf16x3), every matrix moved once. tile_product.cuh tells what a
// block and a thread own.
//
// bf16 is the type of buffers, too, but for the bias and the gradient of the weight; in tf32 and
// bf16x3 all buffers are float.

#include "below.cuh"
#include "dropout.cuh"
#include "tile_epilogue.cuh"
#include "tile_row_sums.cuh"

// ReLU, if asked, and dropout. Two rows at a time first draw what they keep, a bit an entry, by a
// loop: unrolled as the sums in registers have to be, Philox would fill the instruction cache.
DEVICE void drop(const Corner& corner, u32 o, u32 with_relu, const Dropout& dropout, Sums& sum) {
    constexpr u32 pairs = warp_columns / 8;  // of a row
#pragma unroll
    for (u32 i = 0; i < warp_rows / 16; ++i) {
        u32 keeps = 0;
#pragma unroll 2
        for (u32 pair = 0; pair < 2 * pairs; ++pair) {
            const u64 row = first_row(corner) + 16 * i + pair / pairs * 8;
            const u32 column = first_column(corner) + pair % pairs * 8;
            keeps |= dropout.keeps_pair(row * o + column) << 2 * pair;
        }
#pragma unroll
        for (u32 j = 0; j < pairs; ++j) {
#pragma unroll
            for (u32 k = 0; k < 4; ++k) {
                float& value = sum[i][j][k];
                if (with_relu) value = relu(value);
                value =
                    keeps >> (k / 2 * 2 * pairs + 2 * j + k % 2) & 1 ? value * dropout.scale : 0.0F;
            }
        }
    }
}

template <class Precision, class T>
DEVICE void forward(Global<const T> x, Global<const T> weight, Global<const float> bias,
                    Global<T> out, u32 n, u32 in, u32 o, u32 with_relu, const Dropout& dropout) {
    const Corner corner(o);
    Sums sum = {};
    product<Precision>(matrix_along_k(x, n, in), matrix_along_k(weight, o, in), corner, 0, in, sum);
    if (dropout.rng) {
        add_bias(corner, o, bias, sum);
        drop(corner, o, with_relu, dropout, sum);
        bias = nullptr;  // as done, like ReLU
        with_relu = 0;
    }
    store_activations(corner, n, o, bias, with_relu, out, sum);
}

KERNEL(linear_forward_bf16_mma, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, u32 n, u32 in, u32 o, u32 with_relu,
       Global<const u32> rng, u32 layer, u32 threshold, float scale) {
    forward<Bf16>(x, weight, bias, out, n, in, o, with_relu, {rng, layer, threshold, scale});
}

KERNEL(linear_forward_tf32_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 in, u32 o, u32 with_relu,
       Global<const u32> rng, u32 layer, u32 threshold, float scale) {
    forward<Tf32>(x, weight, bias, out, n, in, o, with_relu, {rng, layer, threshold, scale});
}

KERNEL(linear_forward_bf16x3_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 in, u32 o, u32 with_relu,
       Global<const u32> rng, u32 layer, u32 threshold, float scale) {
    forward<Bf16x3>(x, weight, bias, out, n, in, o, with_relu, {rng, layer, threshold, scale});
}

// Of a matrix; columns can be added to it.
struct Entry {
    u32 row, column;

    DEVICE Entry operator+(u32 more) const { return {row, column + more}; }
};

template <class Precision, class T>
DEVICE void input_gradient(Global<const T> grad, Global<const T> weight, Global<T> grad_x, u32 n,
                           u32 in, u32 o, const Below<T>& below) {
    const Corner corner(in);
    Sums sum = {};
    product<Precision>(matrix_along_k(grad, n, o), matrix_along_rows(weight, in, o), corner, 0, o,
                       sum);
    if (below.argmax) {
        for_pairs(
            corner, n, in, sum, [=](u32 row) { return Entry{row, 0}; },
            [&](const Entry& at, float value, float next) {
                unpool(below, window_of(below, at.row, at.column), grad_x, value);
                unpool(below, window_of(below, at.row, at.column + 1), grad_x, next);
            });
    } else {
        for_pairs(
            corner, n, in, sum, [=](u32 row) { return static_cast<u64>(row) * in; },
            [&](u64 at, float value, float next) {
                const float2 pair = below.masked(at, float2{value, next});
                store2(grad_x + at, pair.x, pair.y);
            });
    }
}

KERNEL(linear_input_gradient_bf16_mma, threads, Global<const bf16> grad, Global<const bf16> weight,
       Global<bf16> grad_x, Global<const bf16> out, Global<const u8> argmax, u32 n, u32 in, u32 o,
       u32 h, u32 w, u32 c, u32 map_h, u32 map_w, float scale) {
    input_gradient<Bf16>(grad, weight, grad_x, n, in, o,
                         {out, argmax, h, w, c, map_h, map_w, scale});
}

KERNEL(linear_input_gradient_tf32_mma, threads, Global<const float> grad,
       Global<const float> weight, Global<float> grad_x, Global<const float> out,
       Global<const u8> argmax, u32 n, u32 in, u32 o, u32 h, u32 w, u32 c, u32 map_h, u32 map_w,
       float scale) {
    input_gradient<Tf32>(grad, weight, grad_x, n, in, o,
                         {out, argmax, h, w, c, map_h, map_w, scale});
}

KERNEL(linear_input_gradient_bf16x3_mma, threads, Global<const float> grad,
       Global<const float> weight, Global<float> grad_x, Global<const float> out,
       Global<const u8> argmax, u32 n, u32 in, u32 o, u32 h, u32 w, u32 c, u32 map_h, u32 map_w,
       float scale) {
    input_gradient<Bf16x3>(grad, weight, grad_x, n, in, o,
                           {out, argmax, h, w, c, map_h, map_w, scale});
}

template <class Precision, class T>
DEVICE void weight_gradient(Global<const T> x, Global<const T> grad, Global<float> grad_weight,
                            Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    const Corner corner(in);
    const bool of_bias = grad_bias && corner.column == 0;
    Sums sum = {};
    RowSums<T> row_sums;
    product<Precision>(matrix_along_rows(grad, o, n), matrix_along_rows(x, in, n), corner, 0, n,
                       sum, [&](auto& gradients) {
                           if (of_bias) row_sums.add(gradients);
                       });
    store_gradient(corner, o, in, accumulate, grad_weight, sum);
    if (of_bias) row_sums.store(corner, o, accumulate, grad_bias);
}

KERNEL(linear_weight_gradient_bf16_mma, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<float> grad_weight, Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    weight_gradient<Bf16>(x, grad, grad_weight, grad_bias, n, in, o, accumulate);
}

KERNEL(linear_weight_gradient_tf32_mma, threads, Global<const float> x, Global<const float> grad,
       Global<float> grad_weight, Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    weight_gradient<Tf32>(x, grad, grad_weight, grad_bias, n, in, o, accumulate);
}

KERNEL(linear_weight_gradient_bf16x3_mma, threads, Global<const float> x, Global<const float> grad,
       Global<float> grad_weight, Global<float> grad_bias, u32 n, u32 in, u32 o, u32 accumulate) {
    weight_gradient<Bf16x3>(x, grad, grad_weight, grad_bias, n, in, o, accumulate);
}
