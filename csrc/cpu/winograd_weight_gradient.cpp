// The weight gradient by Winograd's algorithm (winograd.hpp): for each of its products, transformed
// gradients [tile, out] times transformed patches [tile, in], summed over the tiles of all images.
//
//     patches of x, (M + 2)^2  --B-->  V [product][tile][in] ---.
//                                                               (x)  sums [product][out][in]
//     tiles of grad,      M^2  --A-->  D [product][tile][out] --'         --G^T-->  3 x 3

#include <cstring>

#include "strips.hpp"
#include "weight_gradient.hpp"
#include "winograd.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

constexpr Index block_channels = 128;  // whole vectors; sums of a block of out x in: 2.4 MiB
constexpr Index block_tiles = 96;      // enough to reuse the sums: they and V are in the L3 cache
constexpr Index most_items = 32;
constexpr Index slab_tiles = 96;  // at least: a slab's sums are transformed once

// How the work is shared out. An item is a slab of images, a block of output channels and one of
// input channels. It has sums of its own, to which it adds a block of tiles after another; in the
// end the slabs' gradients are added up in order.
template <int M>
struct Shares {
    using W = Winograd<M>;

    const Conv2d& s;
    const Tile& tile;  // of the sums: rows are outputs, columns inputs
    Index out, in;     // channels in a block
    Index out_blocks, in_blocks;
    Index tile_rows, tile_columns;  // of the map
    Index slabs = 1;

    explicit Shares(const Conv2d& shape)
        : s(shape),
          tile(choose_tile(smaller(s.o, block_channels), smaller(s.c, block_channels))),
          out(smaller(s.o, block_channels)),
          in(smaller(s.c, block_channels)),
          out_blocks(ceil_div(s.o, out)),
          in_blocks(ceil_div(s.c, in)),
          tile_rows(ceil_div(s.p, M)),
          tile_columns(ceil_div(s.q, M)) {
        const Index most = smaller(s.n, ceil_div(most_items, out_blocks * in_blocks));
        const Index enough = smaller(most, s.n * tile_rows * tile_columns / slab_tiles);
        while (2 * slabs <= enough) slabs *= 2;  // threads share a power of two evenly
    }

    Index rows() const { return round_up(out, tile.rows); }  // of the sums
    // Floats of a transformed tile: vectors and tiles of sums may reach past the last channel.
    Index out_pitch() const { return round_up(rows(), lanes); }
    Index in_pitch() const { return round_up(round_up(in, tile.columns), lanes); }
    Index out_product() const { return product_pitch(block_tiles * out_pitch()); }
    Index in_product() const { return product_pitch(block_tiles * in_pitch()); }
    Index sum_product() const { return product_pitch(rows() * in_pitch()); }
    Index weights() const { return s.o * 9 * s.c; }
};

// Some channels of Side x Side pixels, each where it lies.
template <int Side>
struct Patch {
    const float* pixels[Side][Side];

    auto from(Index channel) const {
        return [this, channel](Index i, Index j) -> const Vector& {
            return vector_at(pixels[i][j] + channel);
        };
    }
};

// Pixels in scratch memory, `pitch` floats each: one of zeros, and then room for a patch.
struct Spare {
    float* data;
    Index pitch;
};

// Channels from `channel` on of an image's pixels from (y, x) on, zeros outside the image. Pixels
// are copied only where whole vectors would reach past the last channel.
template <int Side>
Patch<Side> cut(const Source& source, Index image, Index y, Index x, Index channel, Index channels,
                const Spare& spare) {
    const bool copies = channels % lanes != 0;
    const Index pixel = source.channels, line = source.width * pixel;
    const float* from = source.data + (image * source.height + y) * line + x * pixel + channel;
    const bool inside = y >= 0 && y + Side <= source.height && x >= 0 && x + Side <= source.width;
    Patch<Side> patch;
    for (Index i = 0; i < Side; ++i) {
        for (Index j = 0; j < Side; ++j) patch.pixels[i][j] = from + i * line + j * pixel;
    }
    if (inside && !copies) return patch;
    for (Index i = 0; i < Side; ++i) {
        const bool row_inside = y + i >= 0 && y + i < source.height;
        for (Index j = 0; j < Side; ++j) {
            const float*& at = patch.pixels[i][j];
            if (!row_inside || x + j < 0 || x + j >= source.width) {
                at = spare.data;
            } else if (copies) {
                float* copy = spare.data + (1 + i * Side + j) * spare.pitch;
                std::memcpy(copy, at, channels * sizeof(float));
                at = copy;
            }
        }
    }
    return patch;
}

// Adds a patch's pixels to the sums of their channels, in whole vectors.
template <int Side>
void add_pixels(const Patch<Side>& patch, Index channels, double* sums) {
    for (Index k = 0; k < channels; k += lanes) {
        const auto at = patch.from(k);
        Vector total = {};
        for (Index i = 0; i < Side; ++i) {
            for (Index j = 0; j < Side; ++j) total += at(i, j);
        }
        float entries[lanes];
        vector_at(entries) = total;
#pragma omp simd
        for (Index lane = 0; lane < lanes; ++lane) sums[k + lane] += double{entries[lane]};
    }
}

template <int M>
struct Item {
    using W = Winograd<M>;

    const Shares<M>& a;
    Source x, grad;
    Index out, outs, in, ins;  // its channels: first, and how many

    // Tiles `first` .. `first + count` of all images' into D and V.
    void transform(Index first, Index count, float* d, float* v, double* bias_sums) const {
        const Index pitch = larger(a.in_pitch(), a.out_pitch());
        const Spare spare = {scratch<float>(Slot::padded, (1 + W::products) * pitch), pitch};
        zero(spare.data, pitch);
        for (Index t = 0; t < count; ++t) {
            const Index tiles = a.tile_rows * a.tile_columns;
            const Index image = (first + t) / tiles, index = (first + t) % tiles;
            const Index row = index / a.tile_columns * M, column = index % a.tile_columns * M;
            const auto map = cut<M>(grad, image, row, column, out, outs, spare);
            for (Index k = 0; k < outs; k += lanes) {
                spread<W, typename W::Output>(
                    map.from(k),
                    {d + t * a.out_pitch() + k, W::size * a.out_product(), a.out_product()});
            }
            if (bias_sums != nullptr) add_pixels(map, outs, bias_sums);
            const auto patch = cut<W::size>(x, image, row - x.top, column - x.left, in, ins, spare);
            for (Index k = 0; k < ins; k += lanes) {
                spread<W, typename W::Input>(
                    patch.from(k),
                    {v + t * a.in_pitch() + k, W::size * a.in_product(), a.in_product()});
            }
        }
    }

    // sums [product][panel of inputs][tile.rows outputs][tile.rows][tile.columns]
    void multiply(Index count, const float* d, const float* v, float* sums, bool add) const {
        for (Index p = 0; p < W::products; ++p) {
            for (Index i = 0; i < ins; i += a.tile.columns) {
                const Operand patches = {v + p * a.in_product() + i, 1, a.in_pitch(), 0};
                for (Index o = 0; o < outs; o += a.tile.rows) {
                    a.tile.product(
                        1, count, {d + p * a.out_product() + o, 1, a.out_pitch(), 0}, patches,
                        sums + p * a.sum_product() + i * a.rows() + o * a.tile.columns, add);
                }
            }
        }
    }

    // Its part of the gradient [o, 3, 3, c].
    void transform_sums(const float* sums, float* grad_weight) const {
        const Index columns = a.tile.columns, line = W::size * a.sum_product();
        for (Index o = 0; o < outs; ++o) {
            for (Index i = 0; i < ins; i += lanes) {
                const float* from =
                    sums + i / columns * columns * a.rows() + o * columns + i % columns;
                float entries[9 * lanes];
                gather<W, typename W::Kernel>({from, line, a.sum_product()},
                                              {entries, 3 * lanes, lanes});
                for (Index k = 0; k < 9; ++k) {
                    std::memcpy(grad_weight + ((out + o) * 9 + k) * a.s.c + in + i,
                                entries + k * lanes, smaller(lanes, ins - i) * sizeof(float));
                }
            }
        }
    }

    void run(Index first, Index end, float* grad_weight, double* bias_sums) const {
        float* d = scratch<float>(Slot::map, W::products * a.out_product());
        float* v = scratch<float>(Slot::packed, W::products * a.in_product());
        float* sums = scratch<float>(Slot::transformed, W::products * a.sum_product());
        for (Index t = first; t < end; t += block_tiles) {
            const Index count = smaller(block_tiles, end - t);
            transform(t, count, d, v, bias_sums);
            multiply(count, d, v, sums, t > first);
        }
        transform_sums(sums, grad_weight);
    }
};

template <int M>
void weight_gradient(const Conv2d& s, const float* x, const float* grad, float* grad_weight,
                     float* grad_bias) {
    const Shares<M> a(s);
    const Index tiles = a.tile_rows * a.tile_columns, bias_pitch = round_up(s.o, lanes);
    float* partial = scratch<float>(Slot::partial, (a.slabs - 1) * a.weights());
    double* bias_sums = scratch<double>(Slot::sums, a.slabs * bias_pitch);
    std::memset(bias_sums, 0, a.slabs * bias_pitch * sizeof(double));
#pragma omp parallel num_threads(threads())
    {
#pragma omp for schedule(dynamic) collapse(3)
        for (Index slab = 0; slab < a.slabs; ++slab) {
            for (Index o = 0; o < s.o; o += a.out) {
                for (Index i = 0; i < s.c; i += a.in) {
                    const Item<M> item = {a,
                                          {x, s.h, s.w, s.c, s.padding, s.padding, 1},
                                          {grad, s.p, s.q, s.o, 0, 0, 1},
                                          o,
                                          smaller(a.out, s.o - o),
                                          i,
                                          smaller(a.in, s.c - i)};
                    item.run(s.n * slab / a.slabs * tiles, s.n * (slab + 1) / a.slabs * tiles,
                             slab == 0 ? grad_weight : partial + (slab - 1) * a.weights(),
                             grad_bias != nullptr && i == 0 ? bias_sums + slab * bias_pitch + o
                                                            : nullptr);
                }
            }
        }
#pragma omp for schedule(static)
        for (Index o = 0; o < s.o; ++o) {
            const Index row = 9 * s.c;
            for (Index slab = 1; slab < a.slabs; ++slab) {
                const float* term = partial + (slab - 1) * a.weights() + o * row;
                float* total = grad_weight + o * row;
#pragma omp simd
                for (Index k = 0; k < row; ++k) total[k] += term[k];
            }
        }
    }
    if (grad_bias != nullptr) add_bias_sums(bias_sums, a.slabs, bias_pitch, s.o, grad_bias);
}

}  // namespace

void weight_gradient_winograd(const Conv2d& s, const float* x, const float* grad,
                              float* grad_weight, float* grad_bias, int tile_side) {
    if (tile_side == 4) {
        weight_gradient<4>(s, x, grad, grad_weight, grad_bias);
    } else {
        weight_gradient<3>(s, x, grad, grad_weight, grad_bias);
    }
}

}  // namespace fercore::FERCORE_LEVEL
