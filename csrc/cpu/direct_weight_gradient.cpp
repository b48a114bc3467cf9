// The weight gradient of a convolution: for each kernel row, output gradients [channel, pixel]
// times the patches [pixel, KW * C] under that row (strips.hpp, product.hpp).

#include <cstring>

#include "product.hpp"
#include "strips.hpp"
#include "weight_gradient.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index block_channels = 64;
constexpr Index least_items = 32;

// How the work is shared out. An item is a slab of images, a block of output channels and a kernel
// row. It has a sum of its own, [panel][tile of channels][tile.rows][tile.columns], to which it
// adds one strip after another; in the end the slabs' sums are added up in order.
struct Shares {
    const Conv2d& shape;
    const Tile& tile;
    Index run;          // KW * C, in `panels` panels of tile.columns
    Index width, line;  // of a padded row: pixels, floats
    Index panels;
    Index block, blocks;  // channels in a block, a multiple of tile.rows
    Index slabs;
    Strip strip;

    explicit Shares(const Conv2d& s)
        : shape(s),
          tile(choose_tile(smaller(s.o, block_channels), s.kw * s.c)),
          run(s.kw * s.c),
          width((s.q - 1) * s.stride + s.kw),
          line(width * s.c),
          panels(ceil_div(run, tile.columns)),
          block(round_up(smaller(s.o, block_channels), tile.rows)),
          blocks(ceil_div(s.o, block)),
          slabs(smaller(s.n, ceil_div(least_items, blocks * s.kh))),
          strip(choose_strip(ceil_div(s.n, slabs), s.p, s.q, s.p * line, 1)) {}

    Index item_floats() const { return panels * block * tile.columns; }
    Index channels(Index b) const { return smaller(block, shape.o - b * block); }
    Index item(Index slab, Index b, Index ky) const { return (slab * blocks + b) * shape.kh + ky; }
};

// Output gradients as [tile of channels][pixel][tile_rows], zeros past the last channel; `pitch`
// floats lie between pixels, `tile_pitch` between tiles of the result.
void pack_gradient(const float* grad, Index pixels, Index pitch, Index channels, Index tile_rows,
                   Index tile_pitch, float* out) {
    for (Index i = 0; i < pixels; ++i) {
        const float* from = grad + i * pitch;
        float* to = out + i * tile_rows;
        for (Index first = 0; first < channels; first += tile_rows, to += tile_pitch) {
            const Index real = smaller(tile_rows, channels - first);
            for (Index j = 0; j < real; ++j) to[j] = from[first + j];
            for (Index j = real; j < tile_rows; ++j) to[j] = 0;
        }
    }
}

// One item; `bias_sum` (null if unwanted) gets the sums of the gradients themselves.
void sum_item(const Shares& a, const Source& x, const float* grad, Index slab, Index b, Index ky,
              float* sum, double* bias_sum) {
    const Conv2d& s = a.shape;
    const Tile& tile = a.tile;
    const Index channels = a.channels(b);
    const Index strip_rows = a.strip.images * a.strip.rows;
    // The last panel may read past the last patch, for results that nobody looks at.
    float* padded = scratch<float>(Slot::padded, strip_rows * a.line + tile.columns);
    float* packed = scratch<float>(Slot::packed, strip_rows * s.q * a.block);
    const Index end = s.n * (slab + 1) / a.slabs;
    bool add = false;
    for (Index first = s.n * slab / a.slabs; first < end; first += a.strip.images) {
        const Index images = smaller(a.strip.images, end - first);
        for (Index row = 0; row < s.p; row += a.strip.rows) {
            const Index rows = smaller(a.strip.rows, s.p - row), pixels = rows * s.q;
            for (Index i = 0; i < images; ++i) {
                const float* from = grad + ((first + i) * s.p + row) * s.q * s.o + b * a.block;
                copy_rows(x, first + i, row * s.stride + ky, s.stride, rows, a.width,
                          padded + i * rows * a.line);
                pack_gradient(from, pixels, s.o, channels, tile.rows, images * pixels * tile.rows,
                              packed + i * pixels * tile.rows);
                if (bias_sum != nullptr) add_columns(from, pixels, s.o, channels, bias_sum);
            }
            for (Index panel = 0; panel < a.panels; ++panel) {
                const Operand patches = {padded + panel * tile.columns, 1, s.stride * s.c, a.line};
                for (Index o = 0; o < channels; o += tile.rows) {
                    const Operand gradients = {packed + images * pixels * o, 1, tile.rows,
                                               s.q * tile.rows};
                    tile.product(images * rows, s.q, gradients, patches,
                                 sum + (panel * a.block + o) * tile.columns, add);
                }
            }
            add = true;
        }
    }
}

// One row of the gradient, [run] floats: the sums of all slabs.
void add_slabs(const Shares& a, const float* sums, Index o, Index ky, float* out) {
    const Index columns = a.tile.columns;
    std::memset(out, 0, a.run * sizeof(float));
    for (Index slab = 0; slab < a.slabs; ++slab) {
        const float* sum = sums + a.item(slab, o / a.block, ky) * a.item_floats();
        for (Index k = 0; k < a.run; k += columns) {
            const float* from = sum + k * a.block + o % a.block * columns;
            const Index count = smaller(columns, a.run - k);
#pragma omp simd
            for (Index j = 0; j < count; ++j) out[k + j] += from[j];
        }
    }
}

}  // namespace

void weight_gradient_direct(const Conv2d& s, const float* x, const float* grad, float* grad_weight,
                            float* grad_bias) {
    const Shares a(s);
    const Source source = {x, s.h, s.w, s.c, s.padding, s.padding, 1};
    float* sums = scratch<float>(Slot::partial, a.slabs * a.blocks * s.kh * a.item_floats());
    double* bias_sums = scratch<double>(Slot::sums, a.slabs * a.blocks * a.block);
    std::memset(bias_sums, 0, a.slabs * a.blocks * a.block * sizeof(double));
#pragma omp parallel num_threads(threads())
    {
#pragma omp for schedule(dynamic) collapse(3)
        for (Index slab = 0; slab < a.slabs; ++slab) {
            for (Index b = 0; b < a.blocks; ++b) {
                for (Index ky = 0; ky < s.kh; ++ky) {
                    double* bias_sum = bias_sums + (slab * a.blocks + b) * a.block;
                    sum_item(a, source, grad, slab, b, ky,
                             sums + a.item(slab, b, ky) * a.item_floats(),
                             grad_bias != nullptr && ky == 0 ? bias_sum : nullptr);
                }
            }
        }
#pragma omp for schedule(static) collapse(2)
        for (Index o = 0; o < s.o; ++o) {
            for (Index ky = 0; ky < s.kh; ++ky) {
                add_slabs(a, sums, o, ky, grad_weight + (o * s.kh + ky) * a.run);
            }
        }
    }
    if (grad_bias != nullptr) {
        add_bias_sums(bias_sums, a.slabs, a.blocks * a.block, s.o, grad_bias);
    }
}

}  // namespace fercore::FERCORE_LEVEL
