// Operands of a matrix product that are gathered while they are loaded ("implicit GEMM").
#pragma once

#include "target.cuh"

// What a row or a term adds to an entry's offset in memory, and to its place in the image.
struct Place {
    i64 offset;
    i32 y, x;
};

DEVICE Place operator+(const Place& a, const Place& b) {
    return {a.offset + b.offset, a.y + b.y, a.x + b.x};
}

// Outside of any image, whatever is added.
DEVICE Place nowhere() { return {0, -(1 << 30), 0}; }

// `at` if it exists, else nowhere; the offset does not matter then, so it is not chosen.
DEVICE Place place_if(bool exists, const Place& at) {
    return {at.offset, exists ? at.y : nowhere().y, at.x};
}

// Entry (row, k) of an operand lies where the places of the row and of the term add up to; it is 0
// outside of the image, which is the padding. A matrix is an image of one pixel.
struct Image {
    u32 height = 1, width = 1;

    DEVICE bool contains(const Place& at) const {
        return static_cast<u32>(at.y) < height && static_cast<u32>(at.x) < width;
    }
};

// The i-th of `count` rows or terms of a matrix, `step` entries apart.
DEVICE Place line(u32 i, u32 count, u32 step) {
    return place_if(i < count, {static_cast<i64>(i) * step, 0, 0});
}
