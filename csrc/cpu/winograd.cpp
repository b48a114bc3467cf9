// Convolutions by Winograd's algorithm (winograd.hpp), strip by strip in each thread:
//
//     padded strip --B--> V [product][tile][in]          transformed tiles of the strip
//     then for every panel of output channels, [product][in][panel] being its weights
//         V x weights --> sums [product][tile][panel]    a small matrix product each
//         sums --A^T--> map [row][column][panel]         and on through the epilogue
//
// A strip is whole rows of tiles, of one image or of several. Each output is computed from its own
// tile in one order, so its bits depend neither on the strip nor on the batch.

#include "winograd.hpp"

#include <numeric>

#include "correlation.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index strip_tiles = 48;  // enough to reuse the weights, few enough for the L2 cache

// U [panel][product][in][columns] from the packed weights, [panel][entry][in][columns].
template <int M>
const float* transform_weights(const Weights& weights, Index columns) {
    using W = Winograd<M>;
    const Index row = weights.in * columns, panels = ceil_div(weights.out, columns);
    const float* packed = pack(weights, columns);
    float* transformed = scratch<float>(Slot::transformed, panels * W::products * row);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads())
    for (Index panel = 0; panel < panels; ++panel) {
        for (Index i = 0; i < weights.in; ++i) {
            const float* from = packed + panel * 9 * row + i * columns;
            float* to = transformed + panel * W::products * row + i * columns;
            for (Index j = 0; j < columns; j += lanes) {
                spread<W, typename W::Kernel>(Square<const float>{from + j, 3 * row, row},
                                              {to + j, W::size * row, row});
            }
        }
    }
    return transformed;
}

// How a strip is laid out in scratch memory.
template <int M>
struct Layout {
    using W = Winograd<M>;

    const Correlation& c;
    const Tile& tile;
    Index in, columns;         // channels in whole vectors; tiles in a row
    Strip strip;               // its rows are pixels, a multiple of M
    Index line, image;         // floats of a padded row and image
    Index inputs, sums;        // floats between products of V, and of the sums
    Index map_row, map_image;  // floats of the map

    Layout(const Correlation& correlation, const Tile& product) : c(correlation), tile(product) {
        in = round_up(c.source.channels, lanes);
        columns = ceil_div(c.to.width, M);
        const Index step = c.pooled() ? std::lcm(M, 2) : M;
        const Index rows = round_up(c.rows(), M);
        const Index tile_rows = ceil_div(strip_tiles, columns) * M;
        strip = {1, smaller(rows, round_up(tile_rows, step))};
        if (strip.rows == rows) {
            const Index images = strip_tiles / (rows / M * columns);
            strip.images = larger(1, smaller(images, ceil_div(c.images, threads())));
        }
        line = (columns * M + 2) * c.source.channels;
        image = (strip.rows + 2) * line;
        const Index most = round_up(tiles(strip.images, strip.rows), tile.rows);
        inputs = product_pitch(most * in);
        sums = product_pitch(most * tile.columns);
        map_row = columns * M * tile.columns;
        map_image = strip.rows * map_row;
    }

    Index tiles(Index images, Index rows) const { return images * (rows / M) * columns; }

    // body(tile, image, row, column) for all tiles, the last two in pixels.
    template <class Body>
    void for_tiles(Index images, Index rows, const Body& body) const {
        Index tile_index = 0;
        for (Index i = 0; i < images; ++i) {
            for (Index row = 0; row < rows; row += M) {
                for (Index x = 0; x < columns; ++x) body(tile_index++, i, row, x * M);
            }
        }
    }

    void transform_inputs(const float* padded, Index images, Index rows, float* v) const {
        const Index pixel = c.source.channels;
        for_tiles(images, rows, [&](Index t, Index i, Index row, Index column) {
            const float* from = padded + i * image + row * line + column * pixel;
            for (Index k = 0; k < pixel; k += lanes) {
                spread<W, typename W::Input>(Square<const float>{from + k, line, pixel},
                                             {v + t * in + k, W::size * inputs, inputs});
            }
        });
    }

    void multiply(const float* v, Index count, const float* panel, float* sum) const {
        for (Index p = 0; p < W::products; ++p) {
            const Operand weights = {panel + p * c.source.channels * tile.columns, 1, tile.columns,
                                     0};
            for (Index t = 0; t < count; t += tile.rows) {
                tile.product(1, c.source.channels, {v + p * inputs + t * in, in, 1, 0}, weights,
                             sum + p * sums + t * tile.columns, false);
            }
        }
    }

    void transform_outputs(const float* sum, Index images, Index rows, float* map) const {
        for_tiles(images, rows, [&](Index t, Index i, Index row, Index column) {
            const float* from = sum + t * tile.columns;
            float* to = map + i * map_image + row * map_row + column * tile.columns;
            for (Index j = 0; j < tile.columns; j += lanes) {
                gather<W, typename W::Output>({from + j, W::size * sums, sums},
                                              {to + j, map_row, tile.columns});
            }
        });
    }
};

template <int M>
void correlate(const Correlation& c) {
    using W = Winograd<M>;
    const Tile& tile = choose_tile(strip_tiles, c.to.channels);
    const float* weights = transform_weights<M>(c.weights, tile.columns);
    const Layout<M> l(c, tile);
    const Index strips = ceil_div(c.rows(), l.strip.rows);
#pragma omp parallel num_threads(threads())
    {
        float* padded = scratch<float>(Slot::padded, l.strip.images * l.image + lanes);
        float* v = scratch<float>(Slot::packed, W::products * l.inputs);
        float* sum = scratch<float>(Slot::partial, W::products * l.sums);
        float* map = scratch<float>(Slot::map, l.strip.images * l.map_image);
#pragma omp for schedule(dynamic)
        for (Index s = 0; s < ceil_div(c.images, l.strip.images) * strips; ++s) {
            const Index first = s / strips * l.strip.images, row = s % strips * l.strip.rows;
            const Index images = smaller(l.strip.images, c.images - first);
            const Index rows = smaller(l.strip.rows, c.rows() - row);
            const Index tile_rows = round_up(rows, M), count = l.tiles(images, tile_rows);
            for (Index i = 0; i < images; ++i) {
                copy_rows(c.source, first + i, row, 1, tile_rows + 2, l.columns * M + 2,
                          padded + i * l.image);
            }
            l.transform_inputs(padded, images, tile_rows, v);
            for (Index channel = 0; channel < c.to.channels; channel += tile.columns) {
                l.multiply(v, count, weights + channel * W::products * c.source.channels, sum);
                l.transform_outputs(sum, images, tile_rows, map);
                for (Index i = 0; i < images; ++i) {
                    finish(c.to, {first + i, row, rows, channel,
                                  smaller(tile.columns, c.to.channels - channel),
                                  map + i * l.map_image, l.map_row, tile.columns});
                }
            }
        }
    }
}

}  // namespace

void correlate_winograd(const Correlation& c, int tile) {
    if (tile == 4) {
        correlate<4>(c);
    } else {
        correlate<3>(c);
    }
}

}  // namespace fercore::FERCORE_LEVEL
