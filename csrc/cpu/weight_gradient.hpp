// The weight gradient of a convolution by any algorithm. Part of the kernels: compiled per
// level.
#pragma once

#include "kernels.hpp"
#include "parallel.hpp"

namespace fercore::FERCORE_LEVEL {

// Kernel row by kernel row. grad_bias may be null.
void weight_gradient_direct(const Conv2d& shape, const float* x, const float* grad,
                            float* grad_weight, float* grad_bias);

// By Winograd's algorithm with tiles of `tile_side` x `tile_side`: 3 x 3 kernels, stride 1.
void weight_gradient_winograd(const Conv2d& shape, const float* x, const float* grad,
                              float* grad_weight, float* grad_bias, int tile_side);

// Of a single input channel: 2 or 3 columns in the kernel, outputs that are whole vectors.
void weight_gradient_thin(const Conv2d& shape, const float* x, const float* grad,
                          float* grad_weight, float* grad_bias);

inline void add_columns(const float* grad, Index pixels, Index pitch, Index channels,
                        double* sums) {
    for (Index i = 0; i < pixels; ++i) {
#pragma omp simd
        for (Index j = 0; j < channels; ++j) sums[j] += grad[i * pitch + j];
    }
}

// The slabs' sums of gradients [slab][pitch], added up in order.
inline void add_bias_sums(const double* sums, Index slabs, Index pitch, Index channels,
                          float* grad_bias) {
    for (Index o = 0; o < channels; ++o) {
        double total = 0;
        for (Index slab = 0; slab < slabs; ++slab) total += sums[slab * pitch + o];
        grad_bias[o] = static_cast<float>(total);
    }
}

}  // namespace fercore::FERCORE_LEVEL
