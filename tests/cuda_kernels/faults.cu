// Kernels that are wrong, each in its own way, for the emulator to find.

#include "async_copy.cuh"
#include "mma.cuh"
#include "vector.cuh"

struct Floats {
    Array<float, 64> x;
};

struct Twice {
    Array<float, 64> x[2];
};

KERNEL(read_past_end, 64, Global<const float> x, Global<float> out) {
    out[threadIdx.x] = x[threadIdx.x + 1];  // HERE read_past_end
}

KERNEL(write_before_begin, 64, Global<const float> x, Global<float> out) {
    (out + threadIdx.x)[-1] = x[threadIdx.x];  // HERE write_before_begin
}

KERNEL(vector_past_end, 64, Global<const float> x, Global<float> out) {
    store4(out, load4(x + 4 * threadIdx.x));  // HERE vector_past_end
}

KERNEL(misaligned, 64, Global<const float> x, Global<float> out) {
    store4(out, load4(x + 1));  // HERE misaligned
}

KERNEL(absent, 64, Global<const float> x, Global<float> out) {
    out[threadIdx.x] = x[threadIdx.x];  // HERE absent
}

KERNEL(shared_index, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    shared.x[threadIdx.x + 1] = x[threadIdx.x];  // HERE shared_index
    __syncthreads();
    out[threadIdx.x] = shared.x[threadIdx.x];
}

KERNEL(shared_guard, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);  // HERE shared_guard
    float* raw = &shared.x[0];
    raw[threadIdx.x + 1] = x[threadIdx.x];
    out[threadIdx.x] = 0.0F;
}

KERNEL(unwritten, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    if (threadIdx.x > 0) shared.x[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = shared.x[threadIdx.x];  // HERE unwritten
}

KERNEL(read_too_early, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    shared.x[threadIdx.x] = x[threadIdx.x];         // HERE written
    out[threadIdx.x] = shared.x[threadIdx.x ^ 32];  // HERE read
}

KERNEL(refilled_too_early, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    shared.x[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = shared.x[threadIdx.x ^ 32];  // HERE still read
    shared.x[threadIdx.x] = 0.0F;                   // HERE refilled
}

KERNEL(no_warp_barrier, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    shared.x[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] = shared.x[threadIdx.x ^ 1];  // HERE no_warp_barrier
}

KERNEL(warp_barrier_for_a_block, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    shared.x[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = shared.x[threadIdx.x ^ 32];  // HERE warp_barrier_for_a_block
}

KERNEL(half_a_barrier, 64, Global<const float> x, Global<float> out) {
    if (threadIdx.x < 32) __syncthreads();  // HERE half_a_barrier
    out[threadIdx.x] = x[threadIdx.x];
}

KERNEL(two_barriers, 64, Global<const float> x, Global<float> out) {
    if (threadIdx.x < 40) {
        __syncthreads();  // HERE first of two barriers
    } else {
        __syncthreads();  // HERE second of two barriers
    }
    out[threadIdx.x] = x[threadIdx.x];
}

KERNEL(half_a_shuffle, 64, Global<const float> x, Global<float> out) {
    float value = x[threadIdx.x];
    if (threadIdx.x != 7) value += __shfl_xor_sync(0xFFFFFFFF, value, 1);  // HERE half_a_shuffle
    out[threadIdx.x] = value;
}

KERNEL(two_shuffles, 64, Global<const float> x, Global<float> out) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 2 == 0) {
        value = __shfl_xor_sync(0xFFFFFFFF, value, 1);  // HERE first of two shuffles
    } else {
        value = __shfl_xor_sync(0xFFFFFFFF, value, 1);  // HERE second of two shuffles
    }
    out[threadIdx.x] = value;
}

KERNEL(no_wait, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    copy_async<4>(&shared.x[threadIdx.x], x + threadIdx.x);  // HERE copied
    commit_copies();
    __syncthreads();
    out[threadIdx.x] = shared.x[threadIdx.x];  // HERE no_wait
}

KERNEL(wait_for_too_few, 64, Global<const float> x, Global<float> out) {
    SHARED(Twice, shared);
    copy_async<4>(&shared.x[0][threadIdx.x], x + threadIdx.x);
    commit_copies();
    copy_async<4>(&shared.x[1][threadIdx.x], x + threadIdx.x);
    commit_copies();
    wait_for_copies<1>();
    out[threadIdx.x] = shared.x[0][threadIdx.x] + shared.x[1][threadIdx.x];  // HERE too few
}

KERNEL(copy_past_end, 64, Global<const float> x, Global<float> out) {
    SHARED(Floats, shared);
    copy_async<4>(&shared.x[threadIdx.x], x + (threadIdx.x + 1));  // HERE copy_past_end
    out[threadIdx.x] = 0.0F;
}

KERNEL(row_outside, 64, Global<const float> x, Global<float> out) {
    u32 d[4];
    ldmatrix(d, &d);  // HERE row_outside
    out[threadIdx.x] = x[threadIdx.x];
}

KERNEL(too_little_dynamic, 64, Global<const float> x, Global<float> out) {
    DYNAMIC_SHARED(Floats, shared);  // HERE too_little_dynamic
    shared.x[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] = shared.x[threadIdx.x];
}
