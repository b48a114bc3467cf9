// Batch normalisation of x [rows][C], forward and backward; some channels move by the batch's
// statistics, the others rest on the running ones.
//
//   batch_norm_sums             sums of x and of x * x over slices of the rows
//   batch_norm_statistics       mean and 1 / std in use; moves the running statistics
//   batch_norm_normalise        out = (x - mean) / std * weight + bias, then ReLU if asked
//
//   batch_norm_gradient_sums    sums of grad and of grad * (x - mean) / std, slices of rows
//   batch_norm_parameters       grad_bias and grad_weight; what moving statistics take from grad_x
//   batch_norm_input_gradient   grad_x
//
// Floor: bytes. Forward reads x twice, once for the statistics, and writes out; backward reads x
// and grad twice and writes grad_x. Where nothing moves, the first reading is left out.
//
// A block of sums has 32 channels, whose neighbours a warp reads at once, and 8 lanes of rows:
//
//     partial [slice][2][C]    block (channels / 32, slice): lane l sums rows slice * 8 + l,
//                              + slices * 8, ..., then one thread a channel adds the 8 lanes
//
// and the second kernel adds the slices alike: one order, always the same bits. Sums are float64:
// of squares, so that the variance survives a mean a thousand times the deviation, in one reading.
// That is two operations an entry, which even a GPU with few float64 units should do about as fast
// as its memory delivers (an estimate). The last kernel of each direction owns an entry a thread.
//
// T is the type of x, out and their gradients, float or bf16; weight, bias and statistics are
// float.

#include "convert.cuh"
#include "epilogue.cuh"
#include "grid.cuh"
#include "shared.cuh"

constexpr u32 threads = 256, columns = 32, lanes_of_rows = threads / columns;

struct Pair {
    double first, second;
};

struct Partial {
    Array<double, lanes_of_rows, columns> first, second;
};

// Adds what the lanes of a channel have, in order, and calls store(sums) in one thread a channel.
template <class Store>
DEVICE void add_lanes(Pair mine, Store store) {
    SHARED(Partial, partial);
    const u32 column = threadIdx.x % columns, lane = threadIdx.x / columns;
    partial.first[lane][column] = mine.first;
    partial.second[lane][column] = mine.second;
    __syncthreads();
    if (lane > 0) return;
    Pair sums = {0.0, 0.0};
    for (u32 l = 0; l < lanes_of_rows; ++l) {
        sums.first += partial.first[l][column];
        sums.second += partial.second[l][column];
    }
    store(sums);
}

// Sums terms(entry) over a slice of the rows of the channels that `wanted` accepts.
template <class Wanted, class Terms>
DEVICE void sum_rows(Global<double> partial, u32 rows, u32 c, Wanted wanted, Terms terms) {
    const u32 channel = blockIdx.x * columns + threadIdx.x % columns, slice = blockIdx.y;
    Pair mine = {0.0, 0.0};
    if (channel < c && wanted(channel)) {
        const u32 first = slice * lanes_of_rows + threadIdx.x / columns;
        for (u64 row = first; row < rows; row += gridDim.y * lanes_of_rows) {
            const Pair more = terms(row * c + channel, channel);
            mine.first += more.first;
            mine.second += more.second;
        }
    }
    add_lanes(mine, [&](Pair sums) {
        if (channel >= c) return;
        partial[2 * slice * c + channel] = sums.first;
        partial[(2 * slice + 1) * c + channel] = sums.second;
    });
}

// Adds the slices of a channel, and calls store(channel, sums).
template <class Store>
DEVICE void sum_slices(Global<const double> partial, u32 slices, u32 c, Store store) {
    const u32 channel = blockIdx.x * columns + threadIdx.x % columns;
    Pair mine = {0.0, 0.0};
    if (channel < c) {
        for (u32 slice = threadIdx.x / columns; slice < slices; slice += lanes_of_rows) {
            mine.first += partial[2 * slice * c + channel];
            mine.second += partial[(2 * slice + 1) * c + channel];
        }
    }
    add_lanes(mine, [&](Pair sums) {
        if (channel < c) store(channel, sums);
    });
}

// -- forward --------------------------------------------------------------------------------------

template <class T>
DEVICE void sums(Global<const T> x, Global<const u8> moving, Global<double> partial, u32 rows,
                 u32 c) {
    sum_rows(
        partial, rows, c, [&](u32 channel) { return moving[channel] != 0; },
        [&](u64 i, u32) {
            const double value = to_float(x[i]);
            return Pair{value, value * value};
        });
}

KERNEL(batch_norm_sums, threads, Global<const float> x, Global<const u8> moving,
       Global<double> partial, u32 rows, u32 c) {
    sums(x, moving, partial, rows, c);
}

KERNEL(batch_norm_sums_bf16, threads, Global<const bf16> x, Global<const u8> moving,
       Global<double> partial, u32 rows, u32 c) {
    sums(x, moving, partial, rows, c);
}

// With no `moving` there are no slices.
KERNEL(batch_norm_statistics, threads, Global<const double> partial, Global<const u8> moving,
       Global<float> running_mean, Global<float> running_variance, Global<float> mean,
       Global<float> inverse_std, u32 slices, u32 rows, u32 c, double momentum, double epsilon) {
    sum_slices(partial, slices, c, [&](u32 channel, Pair sums) {
        double average = running_mean[channel], variance = running_variance[channel];
        if (moving && moving[channel]) {
            const double old_mean = average, old_variance = variance, count = rows;
            average = sums.first / count;
            variance = sums.second / count - average * average;
            if (variance < 0.0) variance = 0.0;  // by rounding; a NaN stays
            const double unbiased = rows > 1 ? variance * count / (count - 1.0) : variance;
            running_mean[channel] =
                static_cast<float>((1.0 - momentum) * old_mean + momentum * average);
            running_variance[channel] =
                static_cast<float>((1.0 - momentum) * old_variance + momentum * unbiased);
        }
        mean[channel] = static_cast<float>(average);
        inverse_std[channel] = static_cast<float>(1.0 / sqrt(variance + epsilon));
    });
}

template <class T>
DEVICE void normalise(Global<const T> x, Global<const float> weight, Global<const float> bias,
                      Global<const float> mean, Global<const float> inverse_std, Global<T> out,
                      u32 c, u32 count, u32 with_relu) {
    for_entries(count, [&](u64 i) {
        const u32 channel = static_cast<u32>(i) % c;
        const float normal = (to_float(x[i]) - mean[channel]) * inverse_std[channel];
        const float value = fmaf(normal, weight[channel], bias[channel]);
        out[i] = from_float<T>(with_relu ? relu(value) : value);
    });
}

KERNEL(batch_norm_normalise, threads, Global<const float> x, Global<const float> weight,
       Global<const float> bias, Global<const float> mean, Global<const float> inverse_std,
       Global<float> out, u32 c, u32 count, u32 with_relu) {
    normalise(x, weight, bias, mean, inverse_std, out, c, count, with_relu);
}

KERNEL(batch_norm_normalise_bf16, threads, Global<const bf16> x, Global<const float> weight,
       Global<const float> bias, Global<const float> mean, Global<const float> inverse_std,
       Global<bf16> out, u32 c, u32 count, u32 with_relu) {
    normalise(x, weight, bias, mean, inverse_std, out, c, count, with_relu);
}

// -- backward -------------------------------------------------------------------------------------

// Without x only grad is summed.
template <class T>
DEVICE void gradient_sums(Global<const T> x, Global<const T> grad, Global<const float> mean,
                          Global<const float> inverse_std, Global<double> partial, u32 rows,
                          u32 c) {
    sum_rows(
        partial, rows, c, [](u32) { return true; },
        [&](u64 i, u32 channel) {
            const double g = to_float(grad[i]);
            if (!x) return Pair{g, 0.0};
            return Pair{g, g * ((to_float(x[i]) - mean[channel]) * inverse_std[channel])};
        });
}

KERNEL(batch_norm_gradient_sums, threads, Global<const float> x, Global<const float> grad,
       Global<const float> mean, Global<const float> inverse_std, Global<double> partial, u32 rows,
       u32 c) {
    gradient_sums(x, grad, mean, inverse_std, partial, rows, c);
}

KERNEL(batch_norm_gradient_sums_bf16, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<const float> mean, Global<const float> inverse_std, Global<double> partial, u32 rows,
       u32 c) {
    gradient_sums(x, grad, mean, inverse_std, partial, rows, c);
}

// shares [2][C] are the means over the rows of both sums.
KERNEL(batch_norm_parameters, threads, Global<const double> partial, Global<float> grad_weight,
       Global<float> grad_bias, Global<float> shares, u32 slices, u32 rows, u32 c) {
    sum_slices(partial, slices, c, [&](u32 channel, Pair sums) {
        if (grad_weight) grad_weight[channel] = static_cast<float>(sums.second);
        if (grad_bias) grad_bias[channel] = static_cast<float>(sums.first);
        shares[channel] = static_cast<float>(sums.first / rows);
        shares[c + channel] = static_cast<float>(sums.second / rows);
    });
}

// The mean and the variance of a moving channel depend on every x in it.
template <class T>
DEVICE void input_gradient(Global<const T> x, Global<const T> grad, Global<const float> weight,
                           Global<const float> mean, Global<const float> inverse_std,
                           Global<const u8> moving, Global<const float> shares, Global<T> grad_x,
                           u32 c, u32 count) {
    for_entries(count, [&](u64 i) {
        const u32 channel = static_cast<u32>(i) % c;
        const float inverse = inverse_std[channel];
        float gradient = to_float(grad[i]);
        if (moving && moving[channel]) {
            const float normal = (to_float(x[i]) - mean[channel]) * inverse;
            gradient -= fmaf(normal, shares[c + channel], shares[channel]);
        }
        grad_x[i] = from_float<T>(weight[channel] * inverse * gradient);
    });
}

KERNEL(batch_norm_input_gradient, threads, Global<const float> x, Global<const float> grad,
       Global<const float> weight, Global<const float> mean, Global<const float> inverse_std,
       Global<const u8> moving, Global<const float> shares, Global<float> grad_x, u32 c,
       u32 count) {
    input_gradient(x, grad, weight, mean, inverse_std, moving, shares, grad_x, c, count);
}

KERNEL(batch_norm_input_gradient_bf16, threads, Global<const bf16> x, Global<const bf16> grad,
       Global<const float> weight, Global<const float> mean, Global<const float> inverse_std,
       Global<const u8> moving, Global<const float> shares, Global<bf16> grad_x, u32 c, u32 count) {
    input_gradient(x, grad, weight, mean, inverse_std, moving, shares, grad_x, c, count);
}
