// Strips of padded images, copied into scratch memory that stays in the L2 cache.
//
// In NHWC the patch under a kernel row is one run of KW * C consecutive floats, and the patches of
// neighbouring pixels lie stride * C floats apart: all that `product` asks for, without im2col.
// Part of the kernels: compiled per level.
#pragma once

#include <cstring>

#include "parallel.hpp"

namespace fercore::FERCORE_LEVEL {

// Pixels of output in a strip: enough to reuse the other factor of the product.
constexpr Index strip_pixels = 192;
// Floats of padded input in a strip of several images: 384 KiB.
constexpr Index strip_floats = 3 << 15;

// Images seen with zeros around them, and between their pixels if `spread` > 1.
struct Source {
    const float* data;
    Index height, width, channels;
    Index top, left;  // zeros before the first row and column; negative: rows and columns cut off
    Index spread;     // from one pixel to the next
};

inline void zero(float* data, Index count) {
    if (count > 0) std::memset(data, 0, count * sizeof(float));
}

// Columns 0 .. width of one padded row, from the row `pixels` of the source or, if null, of zeros.
inline void copy_row(const Source& source, const float* pixels, Index width, float* out) {
    const Index channels = source.channels;
    if (pixels == nullptr || source.spread > 1) zero(out, width * channels);
    if (pixels == nullptr) return;
    if (source.spread > 1) {
        for (Index x = 0; x < source.width; ++x) {
            const Index column = source.left + x * source.spread;
            if (column < 0 || column >= width) continue;
            std::memcpy(out + column * channels, pixels + x * channels, channels * sizeof(float));
        }
        return;
    }
    const Index first = larger(0, smaller(width, source.left));
    const Index last = larger(first, smaller(width, source.left + source.width));
    zero(out, first * channels);
    if (last > first) {
        std::memcpy(out + first * channels, pixels + (first - source.left) * channels,
                    (last - first) * channels * sizeof(float));
    }
    zero(out + last * channels, (width - last) * channels);
}

// Padded rows `row`, `row + step`, ... of one image.
inline void copy_rows(const Source& source, Index image, Index row, Index step, Index rows,
                      Index width, float* out) {
    const Index line = source.width * source.channels;
    const float* first = source.data + image * source.height * line;
    for (Index r = 0; r < rows; ++r, out += width * source.channels) {
        const Index y = row + r * step - source.top;
        const bool inside = y >= 0 && y % source.spread == 0 && y / source.spread < source.height;
        copy_row(source, inside ? first + y / source.spread * line : nullptr, width, out);
    }
}

// The rows of output that are computed at a time: some of one image, or all of several.
struct Strip {
    Index images, rows;
};

// `in_image` floats of padded input make a whole image; `step` divides the rows of a strip.
inline Strip choose_strip(Index most_images, Index rows, Index columns, Index in_image,
                          Index step) {
    const Index strip_rows = round_up(ceil_div(strip_pixels, columns), step);
    if (strip_rows < rows) return {1, strip_rows};
    const Index images = smaller(strip_pixels / (rows * columns), strip_floats / in_image);
    return {larger(1, smaller(images, most_images)), rows};
}

}  // namespace fercore::FERCORE_LEVEL
