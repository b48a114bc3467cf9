// Max-pooling and the gradients of the epilogues.

#include <cstring>

#include "kernels.hpp"
#include "parallel.hpp"
#include "unpool.hpp"

namespace fercore::FERCORE_LEVEL {

void relu_gradient(Index size, const float* grad, const float* out, float* grad_before) {
    for_blocks(size, elements_a_block, [&](Index begin, Index end) {
#pragma omp simd
        for (Index i = begin; i < end; ++i) {
            const float value = grad[i];  // read in any case, so that the loop has no branch
            grad_before[i] = out[i] > 0 ? value : 0.0F;
        }
    });
}

void relu_pool_gradient(const Pool2d& s, const float* grad, const float* out,
                        const std::uint8_t* argmax, float* grad_before) {
    const Below below = {out, argmax, s.h, s.w};
    for_blocks(s.n * s.p, 4, [&](Index begin, Index end) {
        for (Index row = begin; row < end; ++row) {
            for (Index x = 0; x < s.q; ++x) {
                const Window window = window_of(below, row / s.p, row % s.p, x, s.p, s.q, s.c);
                const Index from = (row * s.q + x) * s.c;
                unpool(window, s.c, grad + from, out + from, argmax + from,
                       grad_before + window.first);
            }
        }
    });
}

void max_pool_forward(const Pool2d& s, const float* x, float* out, std::uint8_t* argmax) {
    constexpr Index block = 64;  // channels at a time
    for_blocks(s.n * s.p, 1, [&](Index row, Index) {
        const float* rows = x + (row / s.p * s.h + row % s.p * s.stride) * s.w * s.c;
        for (Index i = 0; i < s.q * s.c; i += smaller(block, s.c - i % s.c)) {
            const Index channel = i % s.c, channels = smaller(block, s.c - channel);
            const float* first = rows + i / s.c * s.stride * s.c + channel;
            float largest[block];
            std::int32_t where[block] = {};
            std::memcpy(largest, first, channels * sizeof(float));
            for (Index k = 1; k < s.window * s.window; ++k) {
                const float* entry = first + (k / s.window * s.w + k % s.window) * s.c;
#pragma omp simd
                for (Index c = 0; c < channels; ++c) {
                    // The first NaN beats everything.
                    const bool wins = !(entry[c] <= largest[c]) && largest[c] == largest[c];
                    largest[c] = wins ? entry[c] : largest[c];
                    where[c] = wins ? static_cast<std::int32_t>(k) : where[c];
                }
            }
            const Index to = row * s.q * s.c + i;
            std::memcpy(out + to, largest, channels * sizeof(float));
            for (Index c = 0; argmax != nullptr && c < channels; ++c) {
                argmax[to + c] = static_cast<std::uint8_t>(where[c]);
            }
        }
    });
}

void max_pool_backward(const Pool2d& s, const float* grad, const std::uint8_t* argmax,
                       float* grad_x) {
    for_blocks(s.n, 1, [&](Index image, Index) {
        float* to = grad_x + image * s.h * s.w * s.c;
        std::memset(to, 0, s.h * s.w * s.c * sizeof(float));
        for (Index y = 0; y < s.p; ++y) {
            for (Index x = 0; x < s.q; ++x) {
                const Index from = ((image * s.p + y) * s.q + x) * s.c;
                float* first = to + (y * s.stride * s.w + x * s.stride) * s.c;
                for (Index c = 0; c < s.c; ++c) {
                    const Index k = argmax[from + c];
                    if (k >= s.window * s.window) continue;  // not an entry of the window
                    first[(k / s.window * s.w + k % s.window) * s.c + c] += grad[from + c];
                }
            }
        }
    });
}

}  // namespace fercore::FERCORE_LEVEL
