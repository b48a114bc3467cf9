// Max-pooling of x [N][H][W][C] by windows of any size up to 16x16 and any stride.
//
//   forward    out [N][P][Q][C] and argmax: dy * window + dx of each window's first largest entry
//   backward   grad_x [N][H][W][C]: each entry of grad goes to its window's argmax
//
// Floor: bytes. Forward reads x and writes out and argmax (a byte an entry); backward reads grad
// and argmax and writes grad_x; once each, as what windows share comes from the caches. There is
// one comparison or addition for each of the window * window places of an entry of out.
//
// A thread owns one entry of the result, neighbouring threads neighbouring channels, so that a warp
// reads 32 neighbours at each place of its windows. Backward gathers: an entry of grad_x asks the
// windows that cover it, in order, whether they chose it, so windows that overlap add up in one
// order, always to the same bits.
//
// T is the type of x, out and their gradients, float or bf16; comparisons and sums are float.

#include "convert.cuh"
#include "grid.cuh"

// Sizes of x and of its pooled map, but for the batch's.
struct Pooling {
    u32 h, w, c, p, q, window, stride;
};

template <class T>
DEVICE void forward(Global<const T> x, Global<T> out, Global<u8> argmax, const Pooling& s,
                    u32 count) {
    const auto [h, w, c, p, q, window, stride] = s;
    for_entries(count, [&](u64 entry) {
        const u32 i = static_cast<u32>(entry), channel = i % c, pixel = i / c;
        const u32 column = pixel % q * stride, row = pixel / q % p * stride, image = pixel / q / p;
        const u64 corner = ((static_cast<u64>(image) * h + row) * w + column) * c + channel;
        float largest = to_float(x[corner]);
        u32 place = 0;
        for (u32 dy = 0; dy < window; ++dy) {
            for (u32 dx = 0; dx < window; ++dx) {
                const float value = to_float(x[corner + (static_cast<u64>(dy) * w + dx) * c]);
                // A NaN is larger than any number, and nothing is larger than a NaN.
                if (largest == largest && !(value <= largest)) {
                    largest = value;
                    place = dy * window + dx;
                }
            }
        }
        out[i] = from_float<T>(largest);
        if (argmax) argmax[i] = static_cast<u8>(place);
    });
}

KERNEL(max_pool_forward, 256, Global<const float> x, Global<float> out, Global<u8> argmax, u32 h,
       u32 w, u32 c, u32 p, u32 q, u32 window, u32 stride, u32 count) {
    forward(x, out, argmax, {h, w, c, p, q, window, stride}, count);
}

KERNEL(max_pool_forward_bf16, 256, Global<const bf16> x, Global<bf16> out, Global<u8> argmax, u32 h,
       u32 w, u32 c, u32 p, u32 q, u32 window, u32 stride, u32 count) {
    forward(x, out, argmax, {h, w, c, p, q, window, stride}, count);
}

// The first window along an axis that reaches `at`.
DEVICE u32 first_window(u32 at, u32 window, u32 stride) {
    return at < window ? 0 : (at - window) / stride + 1;
}

template <class T>
DEVICE void backward(Global<const T> grad, Global<const u8> argmax, Global<T> grad_x,
                     const Pooling& s, u32 count) {
    const auto [h, w, c, p, q, window, stride] = s;
    for_entries(count, [&](u64 entry) {
        const u32 i = static_cast<u32>(entry), channel = i % c, pixel = i / c;
        const u32 column = pixel % w, row = pixel / w % h, image = pixel / w / h;
        const u32 first = first_window(column, window, stride);
        float sum = 0.0F;
        for (u32 r = first_window(row, window, stride); r < p && r * stride <= row; ++r) {
            for (u32 s = first; s < q && s * stride <= column; ++s) {
                const u64 at = ((static_cast<u64>(image) * p + r) * q + s) * c + channel;
                const u32 place = (row - r * stride) * window + (column - s * stride);
                if (argmax[at] == place) sum += to_float(grad[at]);
            }
        }
        grad_x[i] = from_float<T>(sum);
    });
}

KERNEL(max_pool_backward, 256, Global<const float> grad, Global<const u8> argmax,
       Global<float> grad_x, u32 h, u32 w, u32 c, u32 p, u32 q, u32 window, u32 stride, u32 count) {
    backward(grad, argmax, grad_x, {h, w, c, p, q, window, stride}, count);
}

KERNEL(max_pool_backward_bf16, 256, Global<const bf16> grad, Global<const u8> argmax,
       Global<bf16> grad_x, u32 h, u32 w, u32 c, u32 p, u32 q, u32 window, u32 stride, u32 count) {
    backward(grad, argmax, grad_x, {h, w, c, p, q, window, stride}, count);
}
