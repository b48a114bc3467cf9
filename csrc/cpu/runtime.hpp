// What lives as long as the process: the number of threads, and scratch memory.
#pragma once

#include <cstddef>

namespace fercore {

using Index = std::ptrdiff_t;

// FERCORE_THREADS, else what OpenMP says (OMP_NUM_THREADS, or the processors this process may use).
int all_threads();
// How many of them what the calling thread asks for takes: all, until it says otherwise.
int threads();
void set_threads(int count);

// Uses of scratch memory that may be alive at the same time in one thread.
enum class Slot { panels, padded, map, packed, partial, sums, transformed, count };

// Memory of the calling thread for one use, kept and reused: what an earlier call returned for the
// same slot is lost. 64-byte aligned; holds old, but never uninitialised, values.
void* scratch_bytes(Slot slot, std::size_t bytes);

template <class T>
T* scratch(Slot slot, Index count) {
    return static_cast<T*>(scratch_bytes(slot, static_cast<std::size_t>(count) * sizeof(T)));
}

}  // namespace fercore
