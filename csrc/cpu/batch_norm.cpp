// Batch normalisation over the rows of x [rows, channels]. Sums are in double, by fixed blocks of
// rows that are added up in order.

#include <cmath>

#include "kernels.hpp"
#include "parallel.hpp"
#include "vectors.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index rows_in_floats = 32;  // so few that float sums of them are as good as double ones

// sums[0][c] and sums[1][c], two sums over all rows; add(first, last, sum0, sum1) adds the terms of
// some rows, at most rows_in_floats.
template <class Add>
double* sum_rows(Index rows, Index channels, const Add& add) {
    const Index step = rows_a_block(rows), blocks = ceil_div(rows, step);
    double* sums = scratch<double>(Slot::sums, larger(1, blocks) * 2 * channels);
    for (Index c = 0; c < 2 * channels; ++c) sums[c] = 0;
    for_blocks(rows, step, [&](Index begin, Index end) {
        double* sum = sums + begin / step * 2 * channels;
        for (Index c = 0; c < 2 * channels; ++c) sum[c] = 0;
        for (Index first = begin; first < end; first += rows_in_floats) {
            add(first, smaller(end, first + rows_in_floats), sum, sum + channels);
        }
    });
    for (Index b = 1; b < blocks; ++b) {
        for (Index c = 0; c < 2 * channels; ++c) sums[c] += sums[b * 2 * channels + c];
    }
    return sums;
}

bool any(const std::uint8_t* moving, Index channels) {
    for (Index c = 0; moving != nullptr && c < channels; ++c) {
        if (moving[c] != 0) return true;
    }
    return false;
}

}  // namespace

void batch_norm_forward(Index rows, Index channels, const float* x, const float* weight,
                        const float* bias, float* running_mean, float* running_variance,
                        const std::uint8_t* moving, double momentum, double epsilon,
                        Epilogue epilogue, float* out, float* mean, float* inverse_std) {
    const double* sums = nullptr;
    if (any(moving, channels)) {
        // Differences from the first row: their squares do not cancel however far the mean is from
        // 0.
        sums = sum_rows(rows, channels, [&](Index first, Index last, double* sum, double* squares) {
            for (Index row = first; row < last; ++row) {
#pragma omp simd
                for (Index c = 0; c < channels; ++c) {
                    const double difference = double{x[row * channels + c]} - x[c];
                    sum[c] += difference;
                    squares[c] += difference * difference;
                }
            }
        });
    }
    for (Index c = 0; c < channels; ++c) {
        double center = running_mean[c], variance = running_variance[c];
        if (sums != nullptr && moving[c] != 0) {
            const double count = static_cast<double>(rows), shift = sums[c] / count;
            center = x[c] + shift;
            variance = sums[channels + c] / count - shift * shift;
            if (variance < 0) variance = 0;
            const double unbiased = rows > 1 ? variance * count / (count - 1) : variance;
            running_mean[c] =
                static_cast<float>((1 - momentum) * running_mean[c] + momentum * center);
            running_variance[c] =
                static_cast<float>((1 - momentum) * running_variance[c] + momentum * unbiased);
        }
        mean[c] = static_cast<float>(center);
        inverse_std[c] = static_cast<float>(1 / std::sqrt(variance + epsilon));
    }
    const bool relu = epilogue == Epilogue::relu;
    for_blocks(rows, larger(1, elements_a_block / channels), [&](Index begin, Index end) {
        for (Index row = begin; row < end; ++row) {
#pragma omp simd
            for (Index c = 0; c < channels; ++c) {
                const Index i = row * channels + c;
                const float value = (x[i] - mean[c]) * (inverse_std[c] * weight[c]) + bias[c];
                out[i] = relu && value < 0 ? 0.0F : value;
            }
        }
    });
}

void batch_norm_backward(Index rows, Index channels, const float* x, const float* grad,
                         const float* weight, const float* mean, const float* inverse_std,
                         const std::uint8_t* moving, float* grad_x, float* grad_weight,
                         float* grad_bias) {
    const bool some_move = any(moving, channels);
    const bool products = grad_weight != nullptr || (grad_x != nullptr && some_move);
    const double* sums = nullptr;
    if (products) {
        sums = sum_rows(rows, channels, [&](Index first, Index last, double* sum, double* product) {
            for (Index c = 0; c < channels; c += lanes) {
                const Index count = smaller(lanes, channels - c);
                const Vector center = load(mean + c, count);
                Doubles total = {};  // as column_sums does
                Vector moment = {};
                for (Index row = first; row < last; ++row) {
                    const Vector g = load(grad + row * channels + c, count);
                    total += __builtin_convertvector(g, Doubles);
                    moment += g * (load(x + row * channels + c, count) - center);
                }
                for (Index k = 0; k < count; ++k) {
                    sum[c + k] += total[k];
                    product[c + k] += double{moment[k]} * inverse_std[c + k];
                }
            }
        });
        for (Index c = 0; c < channels; ++c) {
            if (grad_bias != nullptr) grad_bias[c] = static_cast<float>(sums[c]);
            if (grad_weight != nullptr) grad_weight[c] = static_cast<float>(sums[channels + c]);
        }
    } else if (grad_bias != nullptr) {
        column_sums(rows, channels, grad, grad_bias);
    }
    if (grad_x == nullptr) return;

    // grad_x = scale * grad - slope * (x - mean) - offset, with slope and offset 0 where the
    // statistics are constants.
    float* scale = scratch<float>(Slot::map, 3 * channels);
    float *slope = scale + channels, *offset = slope + channels;
    for (Index c = 0; c < channels; ++c) {
        const double count = static_cast<double>(rows), s = double{weight[c]} * inverse_std[c];
        const bool moves = some_move && moving[c] != 0;
        scale[c] = static_cast<float>(s);
        slope[c] = moves ? static_cast<float>(s * sums[channels + c] / count * inverse_std[c]) : 0;
        offset[c] = moves ? static_cast<float>(s * sums[c] / count) : 0;
    }
    for_blocks(rows, larger(1, elements_a_block / channels), [&](Index begin, Index end) {
        for (Index i = begin * channels; i < end * channels; i += channels) {
            for (Index c = 0; c < channels; c += lanes) {
                const Index count = channels - c;
                const auto at = [&](const float* data) { return load(data + c, count); };
                Vector value = at(scale) * at(grad + i);
                if (some_move) value -= at(slope) * (at(x + i) - at(mean)) + at(offset);
                store(grad_x + i + c, count, value);
            }
        }
    });
}

}  // namespace fercore::FERCORE_LEVEL
