// Convolutions as sums of small products over kernel rows (strips.hpp, product.hpp).
//
// A strip never splits a sum, so its bits depend neither on the number of threads nor on the batch
// that an image is in.

#include "correlation.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index panel_steps = 1536;  // entries of a kernel that one product goes through

// Rows of the map from rows of padded input, for the channels of one panel of weights,
// [height][run][tile.columns]. A row of the map is `tiles` tiles, the last of which may read
// pixels past the end of its line, for results that nobody looks at.
void multiply(const Correlation& c, const Tile& tile, Index tiles, const float* padded, Index rows,
              const float* panel, float* map) {
    const Index run = c.run(), line = c.line(), pixel = c.stride * c.source.channels;
    const Index block = larger(1, panel_steps / run);  // kernel rows of one product
    for (Index ky = 0; ky < c.weights.height; ky += block) {
        const Index segments = smaller(block, c.weights.height - ky);
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

}  // namespace

void correlate_direct(const Correlation& c) {
    const Tile& tile = choose_tile(c.to.width, c.to.channels);
    const float* panels = pack(c.weights, tile.columns);
    const Strip strip = choose_strip(ceil_div(c.images, threads()), c.rows(), c.to.width,
                                     c.in_rows(c.rows()) * c.line(), c.pooled() ? 2 : 1);
    const Index tiles = ceil_div(c.to.width, tile.rows);
    const Index row_pitch = tiles * tile.rows * tile.columns;
    const Index image_floats = c.in_rows(strip.rows) * c.line();
    const Index overhang = tile.rows * c.stride * c.source.channels;
    const Index strips = ceil_div(c.rows(), strip.rows);

#pragma omp parallel num_threads(threads())
    {
        float* padded = scratch<float>(Slot::padded, strip.images * image_floats + overhang);
        float* map = scratch<float>(Slot::map, strip.rows * row_pitch);
#pragma omp for schedule(dynamic)
        for (Index s = 0; s < ceil_div(c.images, strip.images) * strips; ++s) {
            const Index first = s / strips * strip.images, row = s % strips * strip.rows;
            const Index images = smaller(strip.images, c.images - first);
            const Index rows = smaller(strip.rows, c.rows() - row);
            for (Index i = 0; i < images; ++i) {
                copy_rows(c.source, first + i, row * c.stride, 1, c.in_rows(rows), c.width(),
                          padded + i * image_floats);
            }
            for (Index channel = 0; channel < c.to.channels; channel += tile.columns) {
                const float* panel = panels + channel * c.weights.depth();
                for (Index i = 0; i < images; ++i) {
                    multiply(c, tile, tiles, padded + i * image_floats, rows, panel, map);
                    finish(c.to, {first + i, row, rows, channel,
                                  smaller(tile.columns, c.to.channels - channel), map, row_pitch,
                                  tile.columns});
                }
            }
        }
    }
}

}  // namespace fercore::FERCORE_LEVEL
