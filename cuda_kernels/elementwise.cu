// Whole buffers, entry by entry: filling, adding, and the gradient before a ReLU.
//
// Floor: bytes over the copy rate; there is at most one operation an entry. Version 1 moves one
// entry a thread and instruction; version 2 moves four, which keeps more bytes in flight with fewer
// instructions. Grids are as large as the GPU can hold at once; each thread strides over the rest.
//
// T is the type of the entries, float or bf16; arithmetic is float.

#include "grid.cuh"
#include "vector.cuh"

KERNEL(fill, 256, Global<float> out, u64 count, float value) {
    for_entries(count, [&](u64 i) { out[i] = value; });
}

KERNEL(fill_double, 256, Global<double> out, u64 count, double value) {
    for_entries(count, [&](u64 i) { out[i] = value; });
}

template <class T>
DEVICE void accumulate_of(Global<T> total, Global<const T> term, u64 count) {
    for_entries(count,
                [&](u64 i) { total[i] = from_float<T>(to_float(total[i]) + to_float(term[i])); });
}

KERNEL(accumulate, 256, Global<float> total, Global<const float> term, u64 count) {
    accumulate_of(total, term, count);
}

KERNEL(accumulate_bf16, 256, Global<bf16> total, Global<const bf16> term, u64 count) {
    accumulate_of(total, term, count);
}

// Version 2: a thread owns four neighbours; the first threads take the last count % 4 entries, too.
template <class T>
DEVICE void accumulate_by_4_of(Global<T> total, Global<const T> term, u64 count) {
    for_entries(count / 4, [&](u64 i) {
        float4 sum = load4(total + 4 * i);
        const float4 more = load4(term + 4 * i);
        sum = {sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w};
        store4(total + 4 * i, sum);
    });
    const u64 rest = count / 4 * 4;
    accumulate_of(total + rest, term + rest, count % 4);
}

KERNEL(accumulate_by_4, 256, Global<float> total, Global<const float> term, u64 count) {
    accumulate_by_4_of(total, term, count);
}

KERNEL(accumulate_bf16_by_4, 256, Global<bf16> total, Global<const bf16> term, u64 count) {
    accumulate_by_4_of(total, term, count);
}

// `out` is what the ReLU wrote.
template <class T>
DEVICE void relu_gradient_of(Global<const T> grad, Global<const T> out, Global<T> grad_before,
                             u64 count) {
    for_entries(count, [&](u64 i) {
        grad_before[i] = to_float(out[i]) > 0.0F ? grad[i] : from_float<T>(0.0F);
    });
}

KERNEL(relu_gradient, 256, Global<const float> grad, Global<const float> out,
       Global<float> grad_before, u64 count) {
    relu_gradient_of(grad, out, grad_before, count);
}

KERNEL(relu_gradient_bf16, 256, Global<const bf16> grad, Global<const bf16> out,
       Global<bf16> grad_before, u64 count) {
    relu_gradient_of(grad, out, grad_before, count);
}

template <class T>
DEVICE void relu_gradient_by_4_of(Global<const T> grad, Global<const T> out, Global<T> grad_before,
                                  u64 count) {
    for_entries(count / 4, [&](u64 i) {
        const float4 o = load4(out + 4 * i), g = load4(grad + 4 * i);
        store4(grad_before + 4 * i, {o.x > 0.0F ? g.x : 0.0F, o.y > 0.0F ? g.y : 0.0F,
                                     o.z > 0.0F ? g.z : 0.0F, o.w > 0.0F ? g.w : 0.0F});
    });
    const u64 rest = count / 4 * 4;
    relu_gradient_of(grad + rest, out + rest, grad_before + rest, count % 4);
}

KERNEL(relu_gradient_by_4, 256, Global<const float> grad, Global<const float> out,
       Global<float> grad_before, u64 count) {
    relu_gradient_by_4_of(grad, out, grad_before, count);
}

KERNEL(relu_gradient_bf16_by_4, 256, Global<const bf16> grad, Global<const bf16> out,
       Global<bf16> grad_before, u64 count) {
    relu_gradient_by_4_of(grad, out, grad_before, count);
}
