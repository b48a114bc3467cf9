// Convolutions as sums of small products over kernel rows (strips.hpp, product.hpp).
//
// A strip never splits a sum of the forward pass or of the input gradient, so their bits depend
// neither on the number of threads nor on the batch that an image is in.

#include <cstring>

#include "kernels.hpp"
#include "product.hpp"
#include "strips.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index panel_steps = 1536;  // entries of a kernel that one product goes through

// A convolution of a source, before its epilogue.
struct Correlation {
    Source source;
    Index images, kernel_height, kernel_width, stride;
    Index rows, columns, channels;  // of the map

    Index run() const { return kernel_width * source.channels; }           // floats of a kernel row
    Index width() const { return (columns - 1) * stride + kernel_width; }  // of padded input
    Index line() const { return width() * source.channels; }               // floats of a padded row
    Index in_rows(Index out_rows) const { return (out_rows - 1) * stride + kernel_height; }
};

// Part of the map: rows `row` .. `row + rows` of an image, `channels` channels from `channel` on.
// Pixel (r, column) starts at data + (r * row_pitch + column * pixel_pitch).
struct Part {
    Index image, row, rows, channel, channels;
    const float* data;
    Index row_pitch, pixel_pitch;
};

// Rows of the map from rows of padded input, for the channels of one panel of weights,
// [kernel_height][run][tile.columns]. A row of the map is `tiles` tiles, the last of which may read
// pixels past the end of its line, for results that nobody looks at.
void multiply(const Correlation& c, const Tile& tile, Index tiles, const float* padded, Index rows,
              const float* panel, float* map) {
    const Index run = c.run(), line = c.line(), pixel = c.stride * c.source.channels;
    const Index block = larger(1, panel_steps / run);  // kernel rows of one product
    for (Index ky = 0; ky < c.kernel_height; ky += block) {
        const Index segments = smaller(block, c.kernel_height - ky);
        const Operand weights = {panel + ky * run * tile.columns, 1, tile.columns,
                                 run * tile.columns};
        for (Index i = 0; i < rows * tiles; ++i) {
            const Index row = i / tiles, column = i % tiles * tile.rows;
            const Operand patches = {padded + (row * c.stride + ky) * line + column * pixel, pixel,
                                     1, line};
            tile.product(segments, run, patches, weights, map + i * tile.rows * tile.columns,
                         ky > 0);
        }
    }
}

// Calls finish(part) for all parts of the map, once each, in several threads. `panels` holds the
// weights, a panel for every tile.columns channels; `step` divides the rows of a part.
template <class Finish>
void correlate(const Correlation& c, const Tile& tile, const float* panels, Index step,
               const Finish& finish) {
    const Strip strip = choose_strip(ceil_div(c.images, threads()), c.rows, c.columns,
                                     c.in_rows(c.rows) * c.line(), step);
    const Index tiles = ceil_div(c.columns, tile.rows);
    const Index row_pitch = tiles * tile.rows * tile.columns;
    const Index image_floats = c.in_rows(strip.rows) * c.line();
    const Index overhang = tile.rows * c.stride * c.source.channels;
    const Index strips = ceil_div(c.rows, strip.rows);

#pragma omp parallel num_threads(threads())
    {
        float* padded = scratch<float>(Slot::padded, strip.images * image_floats + overhang);
        float* map = scratch<float>(Slot::map, strip.rows * row_pitch);
#pragma omp for schedule(dynamic)
        for (Index s = 0; s < ceil_div(c.images, strip.images) * strips; ++s) {
            const Index first = s / strips * strip.images, row = s % strips * strip.rows;
            const Index images = smaller(strip.images, c.images - first);
            const Index rows = smaller(strip.rows, c.rows - row);
            for (Index i = 0; i < images; ++i) {
                copy_rows(c.source, first + i, row * c.stride, 1, c.in_rows(rows), c.width(),
                          padded + i * image_floats);
            }
            for (Index channel = 0; channel < c.channels; channel += tile.columns) {
                const float* panel = panels + channel * c.kernel_height * c.run();
                for (Index i = 0; i < images; ++i) {
                    multiply(c, tile, tiles, padded + i * image_floats, rows, panel, map);
                    finish(Part{first + i, row, rows, channel,
                                smaller(tile.columns, c.channels - channel), map, row_pitch,
                                tile.columns});
                }
            }
        }
    }
}

// -- weights in panels -------------------------------------------------------------------------

// Rows of `columns` channels, one a kernel entry: panels[p][k][j] = weight[p * columns + j][k].
const float* pack_forward(const Conv2d& s, const float* weight, Index columns) {
    const Index depth = s.kh * s.kw * s.c, count = ceil_div(s.o, columns);
    float* panels = scratch<float>(Slot::panels, count * depth * columns);
    constexpr Index group = 16;  // streams read side by side: more would fall out of the L1 cache
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads())
    for (Index p = 0; p < count; ++p) {
        for (Index j0 = 0; j0 < columns; j0 += group) {
            const Index j1 = smaller(columns, j0 + group);
            const Index real = larger(j0, smaller(j1, s.o - p * columns));
            float* panel = panels + p * depth * columns;
            const float* rows = weight + p * columns * depth;
            for (Index k = 0; k < depth; ++k) {
                for (Index j = j0; j < real; ++j) panel[k * columns + j] = rows[j * depth + k];
                for (Index j = real; j < j1; ++j) panel[k * columns + j] = 0;
            }
        }
    }
    return panels;
}

// The flipped kernel with inputs and outputs exchanged: entry (ky, kx, o) of panel p is
// weight[o][kh - 1 - ky][kw - 1 - kx][p * columns ...].
const float* pack_input_gradient(const Conv2d& s, const float* weight, Index columns) {
    const Index depth = s.kh * s.kw * s.o, count = ceil_div(s.c, columns);
    float* panels = scratch<float>(Slot::panels, count * depth * columns);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads())
    for (Index p = 0; p < count; ++p) {
        for (Index entry = 0; entry < s.kh * s.kw; ++entry) {
            const Index real = smaller(columns, s.c - p * columns);
            const Index flipped = s.kh * s.kw - 1 - entry;
            for (Index o = 0; o < s.o; ++o) {
                float* row = panels + ((p * s.kh * s.kw + entry) * s.o + o) * columns;
                std::memcpy(row, weight + (o * s.kh * s.kw + flipped) * s.c + p * columns,
                            real * sizeof(float));
                zero(row + real, columns - real);
            }
        }
    }
    return panels;
}

// -- epilogues ----------------------------------------------------------------------------------

float rectify(float value) { return value < 0 ? 0.0F : value; }  // keeps NaN

void finish_map(const Part& part, const Conv2d& s, const float* bias, bool relu, float* out) {
    for (Index r = 0; r < part.rows; ++r) {
        for (Index x = 0; x < s.q; ++x) {
            const float* from = part.data + r * part.row_pitch + x * part.pixel_pitch;
            float* to = out + ((part.image * s.p + part.row + r) * s.q + x) * s.o + part.channel;
#pragma omp simd
            for (Index j = 0; j < part.channels; ++j) {
                const float value = from[j] + bias[part.channel + j];
                to[j] = relu ? rectify(value) : value;
            }
        }
    }
}

// Whether a later entry of a window takes over from the largest before it: a NaN does, but once.
bool beats(float value, float largest) { return !(value <= largest) && largest == largest; }

void finish_pooled(const Part& part, const Conv2d& s, const float* bias, float* out,
                   std::uint8_t* argmax) {
    const Index height = s.p / 2, width = s.q / 2;
    for (Index r = 0; r + 1 < part.rows; r += 2) {
        for (Index x = 0; x < width; ++x) {
            const float* upper = part.data + r * part.row_pitch + 2 * x * part.pixel_pitch;
            const float *right = upper + part.pixel_pitch, *lower = upper + part.row_pitch;
            const float* last = lower + part.pixel_pitch;
            const Index to =
                ((part.image * height + (part.row + r) / 2) * width + x) * s.o + part.channel;
            std::int32_t where[max_tile_columns];
#pragma omp simd
            for (Index j = 0; j < part.channels; ++j) {
                const float shift = bias[part.channel + j];
                const float at0 = rectify(upper[j] + shift), at1 = rectify(right[j] + shift);
                const float at2 = rectify(lower[j] + shift), at3 = rectify(last[j] + shift);
                const bool right_wins = beats(at1, at0), last_wins = beats(at3, at2);
                const float of_upper = right_wins ? at1 : at0, of_lower = last_wins ? at3 : at2;
                const bool lower_wins = beats(of_lower, of_upper);
                out[to + j] = lower_wins ? of_lower : of_upper;
                where[j] = lower_wins ? 2 + last_wins : right_wins;
            }
            for (Index j = 0; argmax != nullptr && j < part.channels; ++j) {
                argmax[to + j] = static_cast<std::uint8_t>(where[j]);
            }
        }
    }
}

}  // namespace

void conv2d_forward(const Conv2d& s, const float* x, const float* weight, const float* bias,
                    Epilogue epilogue, float* out, std::uint8_t* argmax) {
    const bool pooled = epilogue == Epilogue::relu_pool;
    const Tile& tile = choose_tile(s.q, s.o);
    const Correlation correlation = {{x, s.h, s.w, s.c, s.padding, s.padding, 1},
                                     s.n,
                                     s.kh,
                                     s.kw,
                                     s.stride,
                                     pooled ? s.p / 2 * 2 : s.p,
                                     s.q,
                                     s.o};
    if (s.n == 0 || correlation.rows == 0) return;
    const float* panels = pack_forward(s, weight, tile.columns);
    if (bias == nullptr) {
        float* zeros = scratch<float>(Slot::sums, s.o);
        zero(zeros, s.o);
        bias = zeros;
    }
    correlate(correlation, tile, panels, pooled ? 2 : 1, [&](const Part& part) {
        if (pooled) {
            finish_pooled(part, s, bias, out, argmax);
        } else {
            finish_map(part, s, bias, epilogue == Epilogue::relu, out);
        }
    });
}

// The gradient, spread by the stride, convolved with the flipped kernel.
void conv2d_input_gradient(const Conv2d& s, const float* grad, const float* weight, float* grad_x) {
    if (s.n == 0) return;
    const Tile& tile = choose_tile(s.w, s.c);
    const Correlation correlation = {
        {grad, s.p, s.q, s.o, s.kh - 1 - s.padding, s.kw - 1 - s.padding, s.stride},
        s.n,
        s.kh,
        s.kw,
        1,
        s.h,
        s.w,
        s.c};
    const float* panels = pack_input_gradient(s, weight, tile.columns);
    correlate(correlation, tile, panels, 1, [&](const Part& part) {
        for (Index r = 0; r < part.rows; ++r) {
            for (Index x = 0; x < s.w; ++x) {
                const Index to = ((part.image * s.h + part.row + r) * s.w + x) * s.c + part.channel;
                std::memcpy(grad_x + to, part.data + r * part.row_pitch + x * part.pixel_pitch,
                            part.channels * sizeof(float));
            }
        }
    });
}

}  // namespace fercore::FERCORE_LEVEL
