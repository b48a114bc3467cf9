// Whose turn it is: the rows, the random state and the rates of a step, taken from what an epoch
// laid down, so that a captured step needs nothing from the host; and rows of tables, there and
// back.
//
// Floor: bytes. A row is taken for a line of words, whatever they mean.

#include "grid.cuh"

// One block: the cursor moves on when all threads have read it. `cursor` counts the rows and the
// steps of the epoch that are done, and the steps of the run. Beyond the end of `order` there are
// padding rows, beyond the end of `schedule` its last row goes on.
KERNEL(advance, 256, Global<u32> cursor, Global<const i32> order, Global<const double> schedule,
       Global<i32> indices, Global<u32> rng, Global<double> rates, u32 rows, u32 steps, u32 count) {
    const u32 first = cursor[0], step = cursor[1], number = cursor[2];
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        const u64 row = static_cast<u64>(first) + i;
        indices[i] = row < rows ? order[row] : -1;
    }
    if (rates != nullptr && threadIdx.x < 4) {
        rates[threadIdx.x] = schedule[4 * static_cast<u64>(min(step, steps - 1)) + threadIdx.x];
    }
    if (rng != nullptr && threadIdx.x == 0) rng[3] = number;
    __syncthreads();
    if (threadIdx.x == 0) {
        cursor[0] = first + count;
        cursor[1] = step + 1;
        cursor[2] = number + 1;
    }
}

template <class Word>
DEVICE void gather_of(Global<const Word> table, Global<const i32> indices, Global<Word> out,
                      u64 count, u32 words, u32 padding) {
    for_entries(count, [&](u64 i) {
        const i32 index = indices[i / words];
        out[i] = index < 0 ? static_cast<Word>(padding)
                           : table[static_cast<u64>(index) * words + i % words];
    });
}

KERNEL(gather, 256, Global<const u32> table, Global<const i32> indices, Global<u32> out, u64 count,
       u32 words, u32 padding) {
    gather_of(table, indices, out, count, words, padding);
}

KERNEL(gather_u16, 256, Global<const u16> table, Global<const i32> indices, Global<u16> out,
       u64 count, u32 words, u32 padding) {
    gather_of(table, indices, out, count, words, padding);
}

KERNEL(scatter, 256, Global<const u32> values, Global<const i32> indices, Global<u32> table,
       u64 count, u32 words) {
    for_entries(count, [&](u64 i) {
        const i32 index = indices[i / words];
        if (index >= 0) table[static_cast<u64>(index) * words + i % words] = values[i];
    });
}
