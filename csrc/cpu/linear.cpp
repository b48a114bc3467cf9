// Fully connected layers: matrix products in blocks of outputs.

#include "gemm.hpp"
#include "kernels.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index block = 128;  // columns of the result (rows of grad_weight) of one product

}  // namespace

void linear_forward(Index n, Index in, Index out, const float* x, const float* weight,
                    const float* bias, Epilogue epilogue, float* y) {
    for_blocks(out, block, [&](Index begin, Index end) {
        gemm(n, end - begin, in, {x, in, false}, {weight + begin * in, in, true}, y + begin, out);
        for (Index i = 0; i < n; ++i) {
            for (Index o = begin; o < end; ++o) {
                const float value = bias == nullptr ? y[i * out + o] : y[i * out + o] + bias[o];
                y[i * out + o] = epilogue == Epilogue::relu && value < 0 ? 0.0F : value;
            }
        }
    });
}

void linear_input_gradient(Index n, Index in, Index out, const float* grad, const float* weight,
                           const Below& below, float* grad_x) {
    const bool pooled = below.argmax != nullptr;
    float* result = pooled ? scratch<float>(Slot::transformed, n * in) : grad_x;
    for_blocks(in, block, [&](Index begin, Index end) {
        gemm(n, end - begin, out, {grad, out, false}, {weight + begin, in, false}, result + begin,
             in);
        for (Index i = 0; below.out != nullptr && !pooled && i < n; ++i) {
#pragma omp simd
            for (Index j = i * in + begin; j < i * in + end; ++j) {
                const float value = result[j];
                result[j] = below.out[j] > 0 ? value : 0.0F;
            }
        }
    });
    if (pooled) {
        const Index height = below.height / 2, width = below.width / 2;
        relu_pool_gradient(
            {n, below.height, below.width, in / (height * width), height, width, 2, 2}, result,
            below.out, below.argmax, grad_x);
    }
}

void linear_weight_gradient(Index n, Index in, Index out, const float* x, const float* grad,
                            float* grad_weight) {
    for_blocks(out, block, [&](Index begin, Index end) {
        gemm(end - begin, in, n, {grad + begin, out, true}, {x, in, false},
             grad_weight + begin * in, in);
    });
}

void column_sums(Index rows, Index columns, const float* x, float* sums) {
    const Index step = rows_a_block(rows), blocks = ceil_div(rows, step);
    double* partial = scratch<double>(Slot::sums, blocks * columns);
    for_blocks(rows, step, [&](Index begin, Index end) {
        double* sum = partial + begin / step * columns;
        for (Index c = 0; c < columns; ++c) sum[c] = 0;
        for (Index i = begin; i < end; ++i) {
            for (Index c = 0; c < columns; ++c) sum[c] += x[i * columns + c];
        }
    });
    for (Index c = 0; c < columns; ++c) {
        double total = 0;
        for (Index b = 0; b < blocks; ++b) total += partial[b * columns + c];
        sums[c] = static_cast<float>(total);
    }
}

}  // namespace fercore::FERCORE_LEVEL
