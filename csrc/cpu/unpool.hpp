// Back through ReLU and a 2x2 max-pool, a window at a time.
// Part of the kernels: compiled per level.
#pragma once

#include "kernels.hpp"
#include "vectors.hpp"

namespace fercore::FERCORE_LEVEL {

// The window that a pixel was pooled from: its first entry in the map, and how far it is to the
// next pixel and row. The last windows own the rows and columns at odd edges, too.
struct Window {
    Index first, pixel, row;
    Index down, across;  // pixels that it owns: 2, or 3 at an odd edge
};

// Of pixel (image, y, x) of maps [height, width, channels] that were pooled from those of `below`.
inline Window window_of(const Below& below, Index image, Index y, Index x, Index height,
                        Index width, Index channels) {
    return {((image * below.height + 2 * y) * below.width + 2 * x) * channels, channels,
            below.width * channels, y + 1 < height ? 2 : below.height - 2 * y,
            x + 1 < width ? 2 : below.width - 2 * x};
}

// Some channels of a window: `to` lies at the first of them in the window's first entry.
inline void unpool(const Window& window, Index channels, const float* grad, const float* out,
                   const std::uint8_t* argmax, float* to) {
    // In vectors of floats: a compiler would take as many channels at a time as fit bytes, which
    // are more than narrow layers have.
    for (Index c = 0; c < channels; c += lanes) {
        const Index count = channels - c;
        const Vector given = load(grad + c, count);
        const Vector value = load(out + c, count) > 0 ? given : Vector{};
        const Integers where = __builtin_convertvector(load(argmax + c, count), Integers);
        for (Index y = 0; y < window.down; ++y) {
            for (Index x = 0; x < window.across; ++x) {
                const bool inside = y < 2 && x < 2;
                const int place = inside ? static_cast<int>(2 * y + x) : -1;
                store(to + y * window.row + x * window.pixel + c, count,
                      where == place ? value : Vector{});
            }
        }
    }
}

}  // namespace fercore::FERCORE_LEVEL
