// The input of a step: images, and their labels or their shares of k classes, gathered by index
// from the data set on the device; images varied by chance, and normalised to x = gray * scale +
// offset.
//
// Floor: bytes; one read and four written a pixel (two of bf16, the other type T of x), the image
// being read from the L1 cache after its first touch. Some 30 float operations a pixel.
//
// A block owns one image. Each of its threads draws the image's lot itself, two blocks of Philox,
// which spares a barrier and costs less than the pixels that follow; then it takes every 256th
// pixel. An image's lot depends on its index, the epoch, the run and the seed, and on nothing else.
//
// Coordinates are float32: at 48 pixels good to 4e-6 of a pixel. The angle is cut down to an eighth
// of a turn in float64, or its rounding would move the corners as much again.

#include "convert.cuh"
#include "philox.cuh"

// A uniform number in [-1, 1), exactly.
DEVICE float signed_uniform(u32 word) {
    return static_cast<float>(static_cast<i32>(word >> 8) - (1 << 23)) * 0x1p-23F;
}

// The rotation by so many quarter turns. Its series leave out terms below 3e-8; sinf and cosf would
// keep a table for huge angles in local memory.
DEVICE float2 cosine_and_sine(double quarters) {
    const double whole = rint(quarters);
    const float x = static_cast<float>(quarters - whole) * 1.57079633F, y = x * x;
    const float sine =
        x * fmaf(y, fmaf(y, fmaf(y, fmaf(y, 1.0F / 362880, -1.0F / 5040), 1.0F / 120), -1.0F / 6),
                 1.0F);
    const float cosine =
        fmaf(y, fmaf(y, fmaf(y, fmaf(y, 1.0F / 40320, -1.0F / 720), 1.0F / 24), -0.5F), 1.0F);
    const i32 quadrant = static_cast<i32>(whole) & 3;
    if (quadrant == 0) return {cosine, sine};
    if (quadrant == 1) return {-sine, cosine};
    if (quadrant == 2) return {-cosine, -sine};
    return {sine, -cosine};
}

// The image at row v and column u, by bilinear interpolation; beyond its border the border goes on.
DEVICE float bilinear(Global<const u8> image, u32 h, u32 w, float v, float u) {
    v = fminf(fmaxf(v, 0.0F), static_cast<float>(h - 1));
    u = fminf(fmaxf(u, 0.0F), static_cast<float>(w - 1));
    const u32 top = static_cast<u32>(v), left = static_cast<u32>(u);
    const u32 bottom = min(top + 1, h - 1), right = min(left + 1, w - 1);
    const float below = v - static_cast<float>(top), beside = u - static_cast<float>(left);
    const float a = image[top * w + left], b = image[top * w + right];
    const float c = image[bottom * w + left], d = image[bottom * w + right];
    const float upper = fmaf(beside, b - a, a), lower = fmaf(beside, d - c, c);
    return fmaf(below, lower - upper, upper);
}

// What the data set says of this block's image: k values of T, and -1 in a padding row.
template <class T>
DEVICE void gather(Global<const T> table, Global<const i32> indices, Global<T> y, u32 k) {
    const u32 row = blockIdx.x;
    const i32 index = indices[row];
    for (u32 i = threadIdx.x; i < k; i += blockDim.x) {
        const T value = index < 0 ? static_cast<T>(-1) : table[static_cast<u64>(index) * k + i];
        y[static_cast<u64>(row) * k + i] = value;
    }
}

// `flips` is the probability of a mirror image times 2**24, rounded up: exact for any probability.
// `quarters` is the largest rotation in quarter turns, `shift` in pixels, `zoom` a part of 1.
struct Variation {
    u32 flips;
    float shift;
    double quarters;
    float zoom;
    u32 cutout;
};

template <class T>
DEVICE void vary(Global<const u8> images, Global<const i32> indices, Global<const u32> rng,
                 Global<T> x, u32 h, u32 w, const Variation& by, float scale, float offset) {
    const u32 row = blockIdx.x, pixels = h * w;
    const i32 index = indices[row];
    const u64 begin = static_cast<u64>(row) * pixels;
    if (index < 0) {
        for (u32 pixel = threadIdx.x; pixel < pixels; pixel += blockDim.x) {
            x[begin + pixel] = from_float<T>(0.0F);
        }
        return;
    }

    const u32 seed = rng[0], run = rng[1], epoch = rng[2], number = static_cast<u32>(index);
    const uint4 first = philox({number, epoch, 0, augmentation_stream}, seed, run);
    const uint4 second = philox({number, epoch, 1, augmentation_stream}, seed, run);
    const bool mirrored = first.x >> 8 < by.flips;
    const float dx = by.shift * signed_uniform(first.y), dy = by.shift * signed_uniform(first.z);
    const float2 turned = cosine_and_sine(by.quarters * signed_uniform(first.w));
    const float size = fmaf(by.zoom, signed_uniform(second.x), 1.0F);
    const float cosine = turned.x / size, sine = turned.y / size;
    const u32 cutout = by.cutout;
    const u32 left = __umulhi(second.y, w - cutout + 1), top = __umulhi(second.z, h - cutout + 1);

    const Global<const u8> image = images + static_cast<u64>(index) * pixels;
    const float across = 0.5F * static_cast<float>(w - 1), down = 0.5F * static_cast<float>(h - 1);
    for (u32 pixel = threadIdx.x; pixel < pixels; pixel += blockDim.x) {
        const u32 i = pixel / w, j = pixel % w;
        const float p = static_cast<float>(j) - across - dx, q = static_cast<float>(i) - down - dy;
        const float u = fmaf(cosine, p, sine * q) + across;
        const float v = fmaf(cosine, q, -sine * p) + down;
        const float gray = bilinear(image, h, w, v, mirrored ? 2.0F * across - u : u);
        const bool cut = i - top < cutout && j - left < cutout;  // what is above or left wraps
        x[begin + pixel] = from_float<T>(cut ? 0.0F : fmaf(gray, scale, offset));
    }
}

KERNEL(augment, 256, Global<const u8> images, Global<const i32> labels, Global<const float> shares,
       Global<const i32> indices, Global<const u32> rng, Global<float> x, Global<i32> y,
       Global<float> y_shares, u32 h, u32 w, u32 k, u32 flips, float shift, double quarters,
       float zoom, u32 cutout, float scale, float offset) {
    if (labels) gather(labels, indices, y, 1);
    if (shares) gather(shares, indices, y_shares, k);
    vary(images, indices, rng, x, h, w, {flips, shift, quarters, zoom, cutout}, scale, offset);
}

KERNEL(augment_bf16, 256, Global<const u8> images, Global<const i32> labels,
       Global<const float> shares, Global<const i32> indices, Global<const u32> rng, Global<bf16> x,
       Global<i32> y, Global<float> y_shares, u32 h, u32 w, u32 k, u32 flips, float shift,
       double quarters, float zoom, u32 cutout, float scale, float offset) {
    if (labels) gather(labels, indices, y, 1);
    if (shares) gather(shares, indices, y_shares, k);
    vary(images, indices, rng, x, h, w, {flips, shift, quarters, zoom, cutout}, scale, offset);
}
