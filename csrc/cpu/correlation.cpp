#include "correlation.hpp"

#include <cstring>

#include "unpool.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

// -- weights in panels: rows of `columns` channels, one a kernel entry --------------------------

// panels[p][k][j] = weight[p * columns + j][k]
void pack_forward(const Weights& w, Index columns, float* panels) {
    const Index depth = w.depth(), count = ceil_div(w.out, columns);
    constexpr Index group = 16;  // streams read side by side: more would fall out of the L1 cache
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads())
    for (Index p = 0; p < count; ++p) {
        for (Index j0 = 0; j0 < columns; j0 += group) {
            const Index j1 = smaller(columns, j0 + group);
            const Index real = larger(j0, smaller(j1, w.out - p * columns));
            float* panel = panels + p * depth * columns;
            const float* rows = w.data + p * columns * depth;
            for (Index k = 0; k < depth; ++k) {
                for (Index j = j0; j < real; ++j) panel[k * columns + j] = rows[j * depth + k];
                for (Index j = real; j < j1; ++j) panel[k * columns + j] = 0;
            }
        }
    }
}

// Entry (ky, kx, k) of panel p is weight[k][height - 1 - ky][width - 1 - kx][p * columns ...].
void pack_transposed(const Weights& w, Index columns, float* panels) {
    const Index count = ceil_div(w.out, columns);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads())
    for (Index p = 0; p < count; ++p) {
        for (Index entry = 0; entry < w.entries(); ++entry) {
            const Index real = smaller(columns, w.out - p * columns);
            const Index flipped = w.entries() - 1 - entry;
            for (Index k = 0; k < w.in; ++k) {
                float* row = panels + ((p * w.entries() + entry) * w.in + k) * columns;
                std::memcpy(row, w.data + (k * w.entries() + flipped) * w.out + p * columns,
                            real * sizeof(float));
                zero(row + real, columns - real);
            }
        }
    }
}

// -- epilogues ----------------------------------------------------------------------------------

float rectify(float value) { return value < 0 ? 0.0F : value; }  // keeps NaN

void finish_map(const Destination& to, const Part& part) {
    const float* bias = to.bias == nullptr ? nullptr : to.bias + part.channel;
    const bool relu = to.epilogue == Epilogue::relu;
    for (Index r = 0; r < part.rows; ++r) {
        for (Index x = 0; x < to.width; ++x) {
            const float* from = part.data + r * part.row_pitch + x * part.pixel_pitch;
            const Index pixel = (part.image * to.height + part.row + r) * to.width + x;
            float* out = to.out + pixel * to.channels + part.channel;
            if (bias == nullptr && !relu) {
                std::memcpy(out, from, part.channels * sizeof(float));
                continue;
            }
#pragma omp simd
            for (Index j = 0; j < part.channels; ++j) {
                const float value = bias == nullptr ? from[j] : from[j] + bias[j];
                out[j] = relu ? rectify(value) : value;
            }
        }
    }
}

// Whether a later entry of a window takes over from the largest before it: a NaN does, but once.
bool beats(float value, float largest) { return !(value <= largest) && largest == largest; }

void finish_pooled(const Destination& to, const Part& part) {
    const Index height = to.height / 2, width = to.width / 2;
    for (Index r = 0; r + 1 < part.rows; r += 2) {
        for (Index x = 0; x < width; ++x) {
            const float* upper = part.data + r * part.row_pitch + 2 * x * part.pixel_pitch;
            const float *right = upper + part.pixel_pitch, *lower = upper + part.row_pitch;
            const float* last = lower + part.pixel_pitch;
            const Index pixel = (part.image * height + (part.row + r) / 2) * width + x;
            const Index first = pixel * to.channels + part.channel;
            std::int32_t where[max_tile_columns];
#pragma omp simd
            for (Index j = 0; j < part.channels; ++j) {
                const float shift = to.bias == nullptr ? 0.0F : to.bias[part.channel + j];
                const float at0 = rectify(upper[j] + shift), at1 = rectify(right[j] + shift);
                const float at2 = rectify(lower[j] + shift), at3 = rectify(last[j] + shift);
                const bool right_wins = beats(at1, at0), last_wins = beats(at3, at2);
                const float of_upper = right_wins ? at1 : at0, of_lower = last_wins ? at3 : at2;
                const bool lower_wins = beats(of_lower, of_upper);
                to.out[first + j] = lower_wins ? of_lower : of_upper;
                where[j] = lower_wins ? 2 + last_wins : right_wins;
            }
            for (Index j = 0; to.argmax != nullptr && j < part.channels; ++j) {
                to.argmax[first + j] = static_cast<std::uint8_t>(where[j]);
            }
        }
    }
}

void finish_gradient(const Destination& to, const Part& part) {
    for (Index r = 0; r < part.rows; ++r) {
        for (Index x = 0; x < to.width; ++x) {
            const float* from = part.data + r * part.row_pitch + x * part.pixel_pitch;
            const Index row = part.row + r;
            const Index pixel = (part.image * to.height + row) * to.width + x;
            const Index first = pixel * to.channels + part.channel;
            if (to.below.argmax != nullptr) {
                const Window window =
                    window_of(to.below, part.image, row, x, to.height, to.width, to.channels);
                unpool(window, part.channels, from, to.below.out + first, to.below.argmax + first,
                       to.out + window.first + part.channel);
                continue;
            }
#pragma omp simd
            for (Index j = 0; j < part.channels; ++j) {
                const float value = from[j];  // read in any case, so that the loop has no branch
                to.out[first + j] = to.below.out[first + j] > 0 ? value : 0.0F;
            }
        }
    }
}

}  // namespace

const float* pack(const Weights& w, Index columns) {
    float* panels = scratch<float>(Slot::panels, ceil_div(w.out, columns) * w.depth() * columns);
    if (w.transposed) {
        pack_transposed(w, columns, panels);
    } else {
        pack_forward(w, columns, panels);
    }
    return panels;
}

void finish(const Destination& to, const Part& part) {
    if (to.below.out != nullptr) {
        finish_gradient(to, part);
    } else if (to.epilogue == Epilogue::relu_pool) {
        finish_pooled(to, part);
    } else {
        finish_map(to, part);
    }
}

}  // namespace fercore::FERCORE_LEVEL
