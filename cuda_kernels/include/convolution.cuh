// Geometry of convolutions: x [N][H][W][C], weight [O][KH][KW][C], and a map [N][P][Q][O].
#pragma once

#include "below.cuh"
#include "epilogue.cuh"
#include "place.cuh"

// A convolution's sizes, as they are named above.
struct Sizes {
    u32 n, h, w, c, o, kh, kw, p, q, stride, padding;

    DEVICE u32 pixels() const { return n * p * q; }
    DEVICE u32 taps() const { return kh * kw * c; }
    DEVICE u32 windows() const { return n * (p / 2) * (q / 2); }
};

// Of an image [height][width][channels] of a batch, where a pixel lies; outside of it, would lie.
DEVICE Place pixel(u32 image, u32 height, u32 width, u32 channels, i32 y, i32 x) {
    const i32 number = (static_cast<i32>(image * height) + y) * static_cast<i32>(width) + x;
    return {static_cast<i64>(number) * static_cast<i32>(channels), y, x};
}

// Where the patch of x begins from which pixel (p, q) of image n is computed.
DEVICE Place patch(const Sizes& s, u32 n, u32 p, u32 q) {
    return pixel(n, s.h, s.w, s.c, static_cast<i32>(p * s.stride) - static_cast<i32>(s.padding),
                 static_cast<i32>(q * s.stride) - static_cast<i32>(s.padding));
}

DEVICE Place patch_of_pixel(const Sizes& s, u32 i) {
    if (i >= s.pixels()) return nowhere();
    return patch(s, i / s.q / s.p, i / s.q % s.p, i % s.q);
}

// The same of entry 2 dy + dx of a 2x2 window; pixels at odd edges are in no window.
DEVICE Place patch_of_window(const Sizes& s, u32 window, u32 entry) {
    if (window >= s.windows()) return nowhere();
    const u32 down = s.p / 2, across = s.q / 2;
    return patch(s, window / across / down, window / across % down * 2 + entry / 2,
                 window % across * 2 + entry % 2);
}

// What tap (ky, kx, channel) adds to the beginning of a patch.
DEVICE Place tap(const Sizes& s, u32 ky, u32 kx, u32 channel) {
    return {static_cast<i64>(ky * s.w + kx) * s.c + channel, static_cast<i32>(ky),
            static_cast<i32>(kx)};
}

DEVICE Place tap_of(const Sizes& s, u32 i) {
    if (i >= s.taps()) return nowhere();
    return tap(s, i / s.c / s.kw, i / s.c % s.kw, i % s.c);
}

// -- the gradient of the input --------------------------------------------------------------------

// Pixel y of x was read through tap ky by output pixel (y + padding - ky) / stride, if that is
// whole. So the pixels with the same (y + padding) % stride, a phase, share their taps: those with
// ky = phase + stride * j. They are a dense problem of their own, in which output pixel g - j meets
// tap j, g being (y + padding) / stride. One axis of it:
struct Phase {
    u32 phase, stride;
    u32 first, count, taps;  // its first pixel of x, its pixels, and its taps
    i32 g;                   // of the first pixel

    DEVICE Phase(u32 phase, u32 size, u32 kernel, u32 stride, u32 padding)
        : phase(phase), stride(stride) {
        first = (phase + stride - padding % stride) % stride;
        count = first < size ? (size - first + stride - 1) / stride : 0;
        taps = phase < kernel ? (kernel - phase + stride - 1) / stride : 0;
        g = static_cast<i32>((first + padding) / stride);
    }

    DEVICE u32 pixel_of(u32 i) const { return first + i * stride; }
    DEVICE u32 tap_of(u32 j) const { return phase + j * stride; }
};

// The dense problem of a phase down and one across: rows are pixels of x, terms (tap down, tap
// across, output channel).
struct Phases {
    const Sizes& s;
    Phase down, across;

    // `phase` counts all stride^2 of them.
    DEVICE Phases(const Sizes& s, u32 phase)
        : s(s),
          down(phase / s.stride, s.h, s.kh, s.stride, s.padding),
          across(phase % s.stride, s.w, s.kw, s.stride, s.padding) {}

    DEVICE u32 rows() const { return s.n * down.count * across.count; }
    DEVICE u32 depth() const { return down.taps * across.taps * s.o; }

    // The output pixel that the row's pixel meets through tap (0, 0).
    DEVICE Place row_in_grad(u32 i) const {
        if (i >= rows()) return nowhere();
        return pixel(i / across.count / down.count, s.p, s.q, s.o,
                     down.g + static_cast<i32>(i / across.count % down.count),
                     across.g + static_cast<i32>(i % across.count));
    }
    DEVICE Place term_in_grad(u32 ky, u32 kx, u32 channel) const {
        const i32 y = -static_cast<i32>(ky), x = -static_cast<i32>(kx);
        const i64 number = y * static_cast<i32>(s.q) + x;
        return {number * s.o + channel, y, x};
    }
    DEVICE Place term_in_weight(u32 ky, u32 kx, u32 channel) const {
        const u32 kernel = (channel * s.kh + down.tap_of(ky)) * s.kw + across.tap_of(kx);
        return {static_cast<i64>(kernel) * s.c, 0, 0};
    }
    // Calls at(image, y, x) with the row's pixel of x.
    template <class At>
    DEVICE auto row_in_image(u32 i, At at) const {
        return at(i / across.count / down.count, down.pixel_of(i / across.count % down.count),
                  across.pixel_of(i % across.count));
    }
    // Where it begins.
    DEVICE u64 row_in_x(u32 i) const {
        return row_in_image(
            i, [&](u64 image, u32 y, u32 x) { return ((image * s.h + y) * s.w + x) * s.c; });
    }
    // And the window it was pooled from.
    template <class T>
    DEVICE Window row_in_map(const Below<T>& below, u32 i) const {
        return row_in_image(i, [&](u32 image, u32 y, u32 x) { return Window(below, image, y, x); });
    }
};

// -- the epilogue of a pooled layer ---------------------------------------------------------------

// A NaN is larger than any number.
DEVICE bool is_larger(float a, float b) { return a > b || (a != a && b == b); }

// The largest of a window's entries after ReLU, and the number of the first such entry.
struct Pooled {
    float value;
    u8 place = 0;

    DEVICE explicit Pooled(const float (&entries)[4]) : value(entries[0]) {
#pragma unroll
        for (u32 i = 1; i < 4; ++i) {
            if (!is_larger(entries[i], value)) continue;
            value = entries[i];
            place = static_cast<u8>(i);
        }
        value = relu(value);
    }
};
