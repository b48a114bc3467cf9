// The masked update, in place: SGD with momentum, Adam and AdamW; and the clipping factor, from the
// norm of all gradients together. Where products read a bf16 copy of the parameter, the same pass
// writes it.
//
// What changes from step to step (the learning rate, Adam's bias corrections, the clipping factor)
// is read from `rates`, so that captured launches can be replayed. A masked entry is not even read:
// its parameter, moments and copy keep their bits.
//
// A gradient may come as its partial sums, [slices][count]: they are added here, in order, and the
// gradient itself is never in memory.
//
// Floor: bytes over the copy rate. An entry of SGD moves 12 bytes, with momentum 20, of Adam 28, of
// the norm 4; two more for its copy, one for its mask, and four for each slice beyond the first.
// Neighbouring threads take neighbouring entries; arithmetic is float32, but sums of squares are
// float64 (those of large float32 numbers would overflow).

#include "convert.cuh"
#include "grid.cuh"
#include "reduce.cuh"
#include "sliced_sums.cuh"

constexpr u32 threads = 256;

// A mask has one entry for every `per_mask` of the parameter's, or is absent.
DEVICE bool may_move(Global<const u8> mask, u32 per_mask, u64 i) {
    return mask == nullptr || mask[static_cast<u32>(i) / per_mask] != 0;
}

DEVICE void move(Global<float> parameter, Global<bf16> copy, u64 i, float value) {
    parameter[i] = value;
    if (copy) copy[i] = to_bf16(value);
}

KERNEL(sgd, 256, Global<float> parameter, Global<const float> gradient, Global<float> velocity,
       Global<const u8> mask, Global<const double> rates, Global<bf16> copy, u32 slices, u32 count,
       u32 per_mask, float momentum, u32 nesterov, float decay) {
    const float rate = static_cast<float>(rates[0]), clip = static_cast<float>(rates[3]);
    const auto moves = [=](u64 i) { return may_move(mask, per_mask, i); };
    for_sums(gradient, slices, count, moves, [&](u64 i, float sum) {
        const float p = parameter[i], g = clip * sum + decay * p;
        float v = g;
        if (velocity != nullptr) {
            v = momentum * velocity[i] + g;
            velocity[i] = v;
        }
        move(parameter, copy, i, p - rate * (nesterov != 0 ? g + momentum * v : v));
    });
}

// `rest1` and `rest2` are 1 - beta1 and 1 - beta2, which float32 would not subtract as well.
KERNEL(adam, 256, Global<float> parameter, Global<const float> gradient, Global<float> first,
       Global<float> second, Global<const u8> mask, Global<const double> rates, Global<bf16> copy,
       u32 slices, u32 count, u32 per_mask, float beta1, float rest1, float beta2, float rest2,
       float epsilon, float decay, u32 decoupled) {
    const float rate = static_cast<float>(rates[0]), clip = static_cast<float>(rates[3]);
    const float correction1 = static_cast<float>(rates[1]);
    const float correction2 = static_cast<float>(rates[2]);
    const float coupled_decay = decoupled != 0 ? 0.0F : decay;
    const float decoupled_decay = decoupled != 0 ? decay : 0.0F;
    const auto moves = [=](u64 i) { return may_move(mask, per_mask, i); };
    for_sums(gradient, slices, count, moves, [&](u64 i, float sum) {
        const float p = parameter[i], g = clip * sum + coupled_decay * p;
        const float m = beta1 * first[i] + rest1 * g, v = beta2 * second[i] + rest2 * (g * g);
        const float step = m / correction1 / (sqrtf(v / correction2) + epsilon);
        move(parameter, copy, i, p - rate * (step + decoupled_decay * p));
        first[i] = m;
        second[i] = v;
    });
}

// -- the norm of all gradients --------------------------------------------------------------------
//
//   gradient 0   block 0, 1, ...   partials [0, 1, ...                        first stage: a launch
//   gradient 1   block 0, 1, ...                      | k, k + 1, ...         a gradient
//   ...                                                             | ... ]
//                                  one block sums them all                    second stage
//
// Which entries a thread adds depends on the grid alone, and so does every bit of the result.

KERNEL(sum_of_squares, 256, Global<const float> gradient, Global<const u8> mask,
       Global<double> partials, u32 count, u32 per_mask) {
    using Sum = BlockSum<double, threads>;
    SHARED(Sum, sum);
    double squares = 0;
    for_entries(count, [&](u64 i) {
        if (!may_move(mask, per_mask, i)) return;
        const double g = gradient[i];
        squares += g * g;
    });
    const double total = sum(squares, threadIdx.x);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// A NaN among the gradients makes the factor NaN: it is not below anything.
KERNEL(clip_factor, 256, Global<const double> partials, Global<double> rates, u32 count,
       double max_norm) {
    using Sum = BlockSum<double, threads>;
    SHARED(Sum, sum);
    double squares = 0;
    for_entries(count, [&](u64 i) { squares += partials[i]; });
    const double norm = sqrt(sum(squares, threadIdx.x));
    if (threadIdx.x == 0) rates[3] = norm <= max_norm ? 1.0 : max_norm / norm;
}
