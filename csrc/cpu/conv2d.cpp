// Convolutions and their gradients, by whichever algorithm is faster.

#include "choice.hpp"
#include "correlation.hpp"
#include "weight_gradient.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

void correlate(const Correlation& c, int tile_side) {
    if (tile_side > 0) {
        correlate_winograd(c, tile_side);
    } else {
        correlate_direct(c);
    }
}

}  // namespace

void conv2d_forward(const Conv2d& s, const float* x, const float* weight, const float* bias,
                    Epilogue epilogue, Algorithm algorithm, float* out, std::uint8_t* argmax) {
    const Correlation c = {{x, s.h, s.w, s.c, s.padding, s.padding, 1},
                           s.n,
                           s.stride,
                           {weight, s.kh, s.kw, s.c, s.o, false},
                           {s.p, s.q, s.o, bias, epilogue, out, argmax, {}}};
    if (s.n > 0 && c.rows() > 0) {
        correlate(c, map_tile_side(algorithm, s, c.rows(), s.q, s.c));
    }
}

// The gradient, spread by the stride, convolved with the flipped kernel.
void conv2d_input_gradient(const Conv2d& s, const float* grad, const float* weight,
                           Algorithm algorithm, const Below& below, float* grad_x) {
    const Correlation c = {
        {grad, s.p, s.q, s.o, s.kh - 1 - s.padding, s.kw - 1 - s.padding, s.stride},
        s.n,
        1,
        {weight, s.kh, s.kw, s.o, s.c, true},
        {s.h, s.w, s.c, nullptr, Epilogue::none, grad_x, nullptr, below}};
    if (s.n > 0) correlate(c, map_tile_side(algorithm, s, s.h, s.w, s.o));
}

void conv2d_weight_gradient(const Conv2d& s, const float* x, const float* grad, Algorithm algorithm,
                            float* grad_weight, float* grad_bias) {
    const int tile_side = weight_gradient_tile_side(algorithm, s);
    if (tile_side > 0) {
        weight_gradient_winograd(s, x, grad, grad_weight, grad_bias, tile_side);
    } else if (is_thin(s)) {
        weight_gradient_thin(s, x, grad, grad_weight, grad_bias);
    } else {
        weight_gradient_direct(s, x, grad, grad_weight, grad_bias);
    }
}

}  // namespace fercore::FERCORE_LEVEL
