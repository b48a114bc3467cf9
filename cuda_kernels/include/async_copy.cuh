// Copies from global to shared memory that do not pass through registers and need not be waited for
// at once (cp.async, sm_80 and up; an ordinary copy before that).
//
//     copy_async<16>(&tiles.a[row][8 * chunk], x + offset, valid);  // zeros if not valid
//     commit_copies();          // what this thread copied since the last commit is one group
//     wait_for_copies<1>();     // all groups of this thread but the latest 1 have arrived
//     __syncthreads();          // and now those of the other threads, too
//
// Both addresses are multiples of the 4, 8 or 16 bytes; an invalid source is not read.
#pragma once

#include "shared.cuh"

#if !ON_GPU

#include "async_copy.hpp"

#elif __CUDA_ARCH__ >= 800

template <u32 Bytes>
DEVICE void copy_async(void* to, const void* from, bool valid = true) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(to)), read = valid ? Bytes : 0;
    if constexpr (Bytes == 16) {  // past the L1 cache: the data is used once, from shared memory
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                     "r"(read)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from),
                     "n"(Bytes), "r"(read)
                     : "memory");
    }
}

DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <u32 Pending>
DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

#else

template <u32 Bytes>
DEVICE void copy_async(void* to, const void* from, bool valid = true) {
    struct __align__(Bytes) Words {
        u32 word[Bytes / 4];
    } words = {};
    if (valid) words = *static_cast<const Words*>(from);
    *static_cast<Words*>(to) = words;
}

DEVICE void commit_copies() {}

template <u32 Pending>
DEVICE void wait_for_copies() {}

#endif
