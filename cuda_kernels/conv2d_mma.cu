// Convolutions, version 2: products on tensor cores (sm_80 and up), in bf16, tf32 and bf16x3.
//
// The same implicit matrix products as in conv2d.cu, where the channels are whole chunks of 16
// bytes (8 bf16 or 4 floats): so each copy is whole, and lies in one pixel.
//
//                      rows            columns   k                      a, b consecutive along
//   forward            pixels          O         taps                   k, k
//   input gradient     pixels of x     C         taps (y, x, out)       k, columns
//   weight gradient    O               taps      pixels, by slices      rows, columns
//
// Floor of each: 2 N P Q O KH KW C operations at the tensor cores' rate (three times as many for
// bf16x3), every tensor moved once. tile_product.cuh tells what a block and a thread own. A term's
// digits (ky, kx, channel), or (image, p, q), are counted on rather than divided for.
//
// bf16 is the type of buffers, too, but for the bias and the gradients of parameters; in tf32 and
// bf16x3 all buffers are float.

#include "convolution.cuh"
#include "tile_epilogue.cuh"
#include "tile_row_sums.cuh"

// Three digits: `first` without end, `second` below `seconds`, `third` below `thirds`. Its place
// is place_of(first, second, third).
template <class PlaceOf>
struct Digits {
    u32 seconds, thirds;
    PlaceOf place_of;
    u32 first = 0, second = 0, third = 0;

    DEVICE void seek(u32 i) {
        first = i / thirds / seconds;
        second = i / thirds % seconds;
        third = i % thirds;
    }
    DEVICE void advance(u32 by) {
        third += by;
        while (third >= thirds) {
            third -= thirds;
            if (++second == seconds) {
                second = 0;
                ++first;
            }
        }
    }
    DEVICE Place place() const { return place_of(first, second, third); }
};
template <class PlaceOf>
Digits(u32, u32, PlaceOf) -> Digits<PlaceOf>;

// -- forward --------------------------------------------------------------------------------------

template <class Precision, class T, class PatchPlace>
DEVICE void convolve(Global<const T> x, Global<const T> weight, const Sizes& s,
                     const Corner& corner, Sums& sum, PatchPlace patch_place) {
    const auto tap_place = [=](u32 ky, u32 kx, u32 channel) {
        return place_if(ky < s.kh, tap(s, ky, kx, channel));
    };
    const auto patches = along_k(x, Image{s.h, s.w}, patch_place, Digits{s.kw, s.c, tap_place});
    product<Precision>(patches, matrix_along_k(weight, s.o, s.taps()), corner, 0, s.taps(), sum);
}

template <class Precision, class T>
DEVICE void forward(Global<const T> x, Global<const T> weight, Global<const float> bias,
                    Global<T> out, const Sizes& s, u32 with_relu) {
    const Corner corner(s.o);
    Sums sum = {};
    convolve<Precision>(x, weight, s, corner, sum, [=](u32 i) { return patch_of_pixel(s, i); });
    store_activations(corner, s.pixels(), s.o, bias, with_relu, out, sum);
}

KERNEL(conv2d_forward_bf16_mma, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    forward<Bf16>(x, weight, bias, out, {n, h, w, c, o, kh, kw, p, q, stride, padding}, with_relu);
}

KERNEL(conv2d_forward_tf32_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    forward<Tf32>(x, weight, bias, out, {n, h, w, c, o, kh, kw, p, q, stride, padding}, with_relu);
}

KERNEL(conv2d_forward_bf16x3_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 with_relu) {
    forward<Bf16x3>(x, weight, bias, out, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                    with_relu);
}

// ReLU and a 2x2 max-pool: a group of rows is one window, so the map before stays in registers.
template <class Precision, class T>
DEVICE void forward_pool(Global<const T> x, Global<const T> weight, Global<const float> bias,
                         Global<T> out, Global<u8> argmax, const Sizes& s) {
    const Corner corner(s.o);
    Sums sum = {};
    convolve<Precision>(x, weight, s, corner, sum, [=](u32 i) {
        return patch_of_window(s, group_of_row(i), entry_of_row(i));
    });
    add_bias(corner, s.o, bias, sum);
    for_groups(corner, s.windows(), s.o, sum, [&](u64 at, const float (&sums)[4]) {
        const Pooled pooled(sums);
        out[at] = from_float<T>(pooled.value);
        if (argmax) argmax[at] = pooled.place;
    });
}

KERNEL(conv2d_forward_pool_bf16_mma, threads, Global<const bf16> x, Global<const bf16> weight,
       Global<const float> bias, Global<bf16> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    forward_pool<Bf16>(x, weight, bias, out, argmax,
                       {n, h, w, c, o, kh, kw, p, q, stride, padding});
}

KERNEL(conv2d_forward_pool_tf32_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    forward_pool<Tf32>(x, weight, bias, out, argmax,
                       {n, h, w, c, o, kh, kw, p, q, stride, padding});
}

KERNEL(conv2d_forward_pool_bf16x3_mma, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<float> out, Global<u8> argmax, u32 n, u32 h, u32 w, u32 c,
       u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding) {
    forward_pool<Bf16x3>(x, weight, bias, out, argmax,
                         {n, h, w, c, o, kh, kw, p, q, stride, padding});
}

// -- input gradient -------------------------------------------------------------------------------

template <class Precision, class T>
DEVICE void input_gradient(Global<const T> grad, Global<const T> weight, Global<T> grad_x,
                           const Sizes& s, const Below<T>& below) {
    const Phases phases(s, blockIdx.y);
    const u32 depth = phases.depth(), down = phases.down.taps, across = phases.across.taps;
    const auto in_grad = [=](u32 ky, u32 kx, u32 channel) {
        return place_if(ky < down, phases.term_in_grad(ky, kx, channel));
    };
    const auto in_weight = [=](u32 ky, u32 kx, u32 channel) {
        return place_if(ky < down, phases.term_in_weight(ky, kx, channel));
    };
    const auto gradients = along_k(
        grad, Image{s.p, s.q}, [=](u32 i) { return phases.row_in_grad(i); },
        Digits{across, s.o, in_grad});
    const auto kernels = along_rows(weight, Image{}, Lines{s.c, 1}, Digits{across, s.o, in_weight});
    const Corner corner(s.c);
    Sums sum = {};
    if (depth > 0) product<Precision>(gradients, kernels, corner, 0, depth, sum);
    if (below.argmax) {
        for_pairs(
            corner, phases.rows(), s.c, sum, [&](u32 row) { return phases.row_in_map(below, row); },
            [&](const Window& at, float value, float next) {
                unpool(below, at, grad_x, float2{value, next});
            });
    } else {
        for_pairs(
            corner, phases.rows(), s.c, sum, [&](u32 row) { return phases.row_in_x(row); },
            [&](u64 at, float value, float next) {
                const float2 pair = below.masked(at, float2{value, next});
                store2(grad_x + at, pair.x, pair.y);
            });
    }
}

KERNEL(conv2d_input_gradient_bf16_mma, threads, Global<const bf16> grad, Global<const bf16> weight,
       Global<bf16> grad_x, Global<const bf16> out, Global<const u8> argmax, u32 n, u32 h, u32 w,
       u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 map_h, u32 map_w) {
    input_gradient<Bf16>(grad, weight, grad_x, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                         {out, argmax, h, w, c, map_h, map_w});
}

KERNEL(conv2d_input_gradient_tf32_mma, threads, Global<const float> grad,
       Global<const float> weight, Global<float> grad_x, Global<const float> out,
       Global<const u8> argmax, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q,
       u32 stride, u32 padding, u32 map_h, u32 map_w) {
    input_gradient<Tf32>(grad, weight, grad_x, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                         {out, argmax, h, w, c, map_h, map_w});
}

KERNEL(conv2d_input_gradient_bf16x3_mma, threads, Global<const float> grad,
       Global<const float> weight, Global<float> grad_x, Global<const float> out,
       Global<const u8> argmax, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh, u32 kw, u32 p, u32 q,
       u32 stride, u32 padding, u32 map_h, u32 map_w) {
    input_gradient<Bf16x3>(grad, weight, grad_x, {n, h, w, c, o, kh, kw, p, q, stride, padding},
                           {out, argmax, h, w, c, map_h, map_w});
}

// -- weight gradient ------------------------------------------------------------------------------

// Each block takes a slice of the pixels, as in conv2d.cu; a slice is whole stages.
template <class Precision, class T>
DEVICE void weight_gradient(Global<const T> x, Global<const T> grad, Global<float> partial,
                            Global<float> bias_partial, const Sizes& s, u32 slice, u32 accumulate) {
    const auto pixel_place = [=](u32 n, u32 p, u32 q) {
        return place_if(n < s.n, patch(s, n, p, q));
    };
    const auto patches = along_rows(
        x, Image{s.h, s.w}, [=](u32 i) { return tap_of(s, i); }, Digits{s.p, s.q, pixel_place});
    const u32 k0 = blockIdx.y * slice, taps = s.taps();
    const Corner corner(taps);
    const bool of_bias = bias_partial && corner.column == 0;
    Sums sum = {};
    RowSums<T> row_sums;
    product<Precision>(matrix_along_rows(grad, s.o, s.pixels()), patches, corner, k0,
                       min(k0 + slice, s.pixels()), sum, [&](auto& gradients) {
                           if (of_bias) row_sums.add(gradients);
                       });
    const Global<float> out = partial + static_cast<u64>(blockIdx.y) * s.o * taps;
    store_gradient(corner, s.o, taps, accumulate, out, sum);
    if (of_bias) row_sums.store(corner, s.o, accumulate, bias_partial + blockIdx.y * s.o);
}

KERNEL(conv2d_weight_gradient_bf16_mma, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<float> partial, Global<float> bias_partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 slice, u32 accumulate) {
    weight_gradient<Bf16>(x, grad, partial, bias_partial,
                          {n, h, w, c, o, kh, kw, p, q, stride, padding}, slice, accumulate);
}

KERNEL(conv2d_weight_gradient_tf32_mma, threads, Global<const float> x, Global<const float> grad,
       Global<float> partial, Global<float> bias_partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 slice, u32 accumulate) {
    weight_gradient<Tf32>(x, grad, partial, bias_partial,
                          {n, h, w, c, o, kh, kw, p, q, stride, padding}, slice, accumulate);
}

KERNEL(conv2d_weight_gradient_bf16x3_mma, threads, Global<const float> x, Global<const float> grad,
       Global<float> partial, Global<float> bias_partial, u32 n, u32 h, u32 w, u32 c, u32 o, u32 kh,
       u32 kw, u32 p, u32 q, u32 stride, u32 padding, u32 slice, u32 accumulate) {
    weight_gradient<Bf16x3>(x, grad, partial, bias_partial,
                            {n, h, w, c, o, kh, kw, p, q, stride, padding}, slice, accumulate);
}
