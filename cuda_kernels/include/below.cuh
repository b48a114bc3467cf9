// Where the gradient of a layer's input goes: to memory, or on through the epilogue of the layer
// below, which made that input.
#pragma once

#include "convert.cuh"
#include "vector.cuh"

// What that epilogue wrote: `out` [N][h][w][c], which is the layer's input, of which ReLU let pass
// what is positive; and if it pooled the map [N][map_h][map_w][c], `argmax`. Null: there is none.
// After dropout only what was kept is positive, and that was multiplied by `scale`.
template <class T>
struct Below {
    Global<const T> out;
    Global<const u8> argmax;
    u32 h, w, c, map_h, map_w;
    float scale = 1.0F;

    DEVICE float masked(u64 at, float value) const {
        if (!out) return value;
        return to_float(out[at]) > 0.0F ? value * scale : 0.0F;
    }
    DEVICE float2 masked(u64 at, float2 pair) const {
        if (!out) return pair;
        const float2 made = load2(out + at);
        return {made.x > 0.0F ? pair.x * scale : 0.0F, made.y > 0.0F ? pair.y * scale : 0.0F};
    }
};

// The 2x2 window that pixel (image, y, x) of `out` was pooled from. Rows and columns of the map at
// odd edges, in no window, belong to the last ones, so that every entry of the map has a window.
struct Window {
    u64 out, first;    // where a channel of the pixel lies, and of the window's first entry
    u32 pixel, row;    // entries from one pixel of the map, and one row, to the next
    u32 down, across;  // pixels that belong to it: 2, or 3 at an odd edge

    template <class T>
    DEVICE Window(const Below<T>& b, u32 image, u32 y, u32 x) {
        out = (static_cast<u64>(image * b.h + y) * b.w + x) * b.c;
        first = (static_cast<u64>(image * b.map_h + 2 * y) * b.map_w + 2 * x) * b.c;
        pixel = b.c;
        row = b.map_w * b.c;
        down = y + 1 < b.h ? 2 : b.map_h - 2 * y;
        across = x + 1 < b.w ? 2 : b.map_w - 2 * x;
    }

    DEVICE Window operator+(u32 channel) const {
        Window moved = *this;
        moved.out += channel;
        moved.first += channel;
        return moved;
    }

    // Calls put(offset, number) for all that belongs to it; 0 to 3, as in argmax, are its entries.
    template <class Put>
    DEVICE void for_entries(Put put) const {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) put(first + i / 2 * row + i % 2 * pixel, i);
#pragma unroll 1
        for (u32 i = 0; i < (down == 3 ? across : 0); ++i) put(first + 2 * row + i * pixel, 4);
        if (across == 3) {
            put(first + 2 * pixel, 4);
            put(first + row + 2 * pixel, 4);
        }
    }
};

// That of a column of a row, where rows are whole images.
template <class T>
DEVICE Window window_of(const Below<T>& b, u32 row, u32 column) {
    const u32 pixel = column / b.c;
    return Window(b, row, pixel / b.w, pixel % b.w) + column % b.c;
}

// Stores the gradient before the pool: at the window's largest entry, and 0 at the others.
template <class T>
DEVICE void unpool(const Below<T>& below, const Window& at, Global<T> grad_x, float value) {
    const u32 place = below.argmax[at.out];
    value = below.masked(at.out, value);
    at.for_entries([&](u64 to, u32 i) { grad_x[to] = from_float<T>(i == place ? value : 0.0F); });
}

// The same for two neighbouring channels, the first of which is even.
template <class T>
DEVICE void unpool(const Below<T>& below, const Window& at, Global<T> grad_x, float2 pair) {
    const u32 first = below.argmax[at.out], second = below.argmax[at.out + 1];
    pair = below.masked(at.out, pair);
    at.for_entries([&](u64 to, u32 i) {
        store2(grad_x + to, i == first ? pair.x : 0.0F, i == second ? pair.y : 0.0F);
    });
}
