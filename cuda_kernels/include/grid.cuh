// Which entries of a long buffer are a thread's.
#pragma once

#include "target.cuh"

// Calls body(i) for every `threads of the grid`-th i below `count`, this thread's own number first:
// neighbouring threads take neighbouring entries, and any grid covers any count.
template <class Body>
DEVICE void for_entries(u64 count, Body body) {
    const u64 step = static_cast<u64>(gridDim.x) * blockDim.x;
    for (u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
        body(i);
    }
}
