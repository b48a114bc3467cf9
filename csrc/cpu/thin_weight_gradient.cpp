// The weight gradient of a convolution of one channel. A patch is too narrow for vectors, so the
// vectors are output channels, read where they lie:
//
//     sum [ky][kx][out] += x [row + ky][column + kx] * grad [row][column][out]

#include <cstring>

#include "product.hpp"
#include "strips.hpp"
#include "weight_gradient.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index most_slabs = 32;

const Tile& choose_thin_tile(const Conv2d& s) {
    static constexpr Tile narrow[] = {tile<2, 1>(1), tile<3, 1>(1)};
    static constexpr Tile wide[] = {tile<2, 4>(1), tile<3, 4>(1)};
    return (s.o % (4 * lanes) == 0 ? wide : narrow)[s.kw - 2];
}

// The sums of some images, [panel of channels][ky][kx][tile.columns], and of the gradients.
void sum_images(const Conv2d& s, const Tile& tile, const float* x, const float* grad, Index first,
                Index end, float* sums, double* bias_sums) {
    const Source source = {x, s.h, s.w, 1, s.padding, s.padding, 1};
    const Index strip_rows = smaller(s.p, ceil_div(strip_pixels, s.q));
    const Index width = (s.q - 1) * s.stride + s.kw;
    float* padded = scratch<float>(Slot::padded, ((strip_rows - 1) * s.stride + s.kh) * width);
    bool add = false;
    for (Index image = first; image < end; ++image) {
        for (Index row = 0; row < s.p; row += strip_rows, add = true) {
            const Index rows = smaller(strip_rows, s.p - row);
            const float* from = grad + (image * s.p + row) * s.q * s.o;
            copy_rows(source, image, row * s.stride, 1, (rows - 1) * s.stride + s.kh, width,
                      padded);
            float* sum = sums;
            for (Index o = 0; o < s.o; o += tile.columns) {
                const Operand gradients = {from + o, 1, s.o, s.q * s.o};
                for (Index ky = 0; ky < s.kh; ++ky, sum += s.kw * tile.columns) {
                    const Operand pixels = {padded + ky * width, 1, s.stride, s.stride * width};
                    tile.product(rows, s.q, pixels, gradients, sum, add);
                }
            }
            if (bias_sums != nullptr) add_columns(from, rows * s.q, s.o, s.o, bias_sums);
        }
    }
}

}  // namespace

void weight_gradient_thin(const Conv2d& s, const float* x, const float* grad, float* grad_weight,
                          float* grad_bias) {
    const Tile& tile = choose_thin_tile(s);
    const Index slabs = smaller(s.n, most_slabs), taps = s.kh * s.kw;
    float* sums = scratch<float>(Slot::partial, slabs * taps * s.o);
    double* bias_sums = scratch<double>(Slot::sums, slabs * s.o);
    std::memset(bias_sums, 0, slabs * s.o * sizeof(double));
#pragma omp parallel for schedule(dynamic) num_threads(threads())
    for (Index slab = 0; slab < slabs; ++slab) {
        sum_images(s, tile, x, grad, s.n * slab / slabs, s.n * (slab + 1) / slabs,
                   sums + slab * taps * s.o,
                   grad_bias == nullptr ? nullptr : bias_sums + slab * s.o);
    }
    for (Index o = 0; o < s.o; ++o) {
        for (Index tap = 0; tap < taps; ++tap) {
            const Index panel = o / tile.columns * taps + tap;
            const float* sum = sums + panel * tile.columns + o % tile.columns;
            float total = 0;
            for (Index slab = 0; slab < slabs; ++slab) total += sum[slab * taps * s.o];
            grad_weight[o * taps + tap] = total;
        }
    }
    if (grad_bias != nullptr) add_bias_sums(bias_sums, slabs, s.o, s.o, grad_bias);
}

}  // namespace fercore::FERCORE_LEVEL
