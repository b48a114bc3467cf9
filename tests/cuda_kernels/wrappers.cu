// Each wrapper in include/, by itself.

#include "async_copy.cuh"
#include "convert.cuh"
#include "mma.cuh"
#include "philox.cuh"
#include "reduce.cuh"
#include "swizzle.cuh"
#include "vector.cuh"

// Fragments are filled entry by entry with the formulas of the PTX ISA, not with those of mma.cuh.
KERNEL(multiply_bf16, 32, Global<const bf16> a, Global<const bf16> b, Global<float> d) {
    const u32 group = threadIdx.x >> 2, place = threadIdx.x & 3;
    u32 of_a[4] = {}, of_b[2] = {};
    float of_d[4];
    for (u32 i = 0; i < 8; ++i) {
        const u32 row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
        const u32 column = place * 2 + (i & 1) + (i < 4 ? 0 : 8);
        of_a[i / 2] |= u32{a[row * 16 + column].bits} << (i & 1) * 16;
    }
    for (u32 i = 0; i < 4; ++i) {
        const u32 row = place * 2 + (i & 1) + (i < 2 ? 0 : 8);
        of_b[i / 2] |= u32{b[row * 8 + group].bits} << (i & 1) * 16;
    }
    for (u32 i = 0; i < 4; ++i) {
        of_d[i] = d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)];
    }
    mma_m16n8k16_bf16(of_d, of_a, of_b);
    for (u32 i = 0; i < 4; ++i) {
        d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)] = of_d[i];
    }
}

KERNEL(multiply_tf32, 32, Global<const float> a, Global<const float> b, Global<float> d,
       u32 rounded) {
    const u32 group = threadIdx.x >> 2, place = threadIdx.x & 3;
    u32 of_a[4], of_b[2];
    float of_d[4];
    for (u32 i = 0; i < 4; ++i) {
        const u32 row = i == 0 || i == 2 ? group : group + 8, column = place + (i < 2 ? 0 : 4);
        const float entry = a[row * 8 + column];
        of_a[i] = rounded ? to_tf32(entry) : __float_as_uint(entry);
    }
    for (u32 i = 0; i < 2; ++i) {
        const float entry = b[(place + (i == 0 ? 0 : 4)) * 8 + group];
        of_b[i] = rounded ? to_tf32(entry) : __float_as_uint(entry);
    }
    for (u32 i = 0; i < 4; ++i) {
        of_d[i] = d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)];
    }
    mma_m16n8k8_tf32(of_d, of_a, of_b);
    for (u32 i = 0; i < 4; ++i) {
        d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)] = of_d[i];
    }
}

template <class Tile>
DEVICE auto* chunk_of(Tile& tile, u32 row, u32 chunk) {
    return &tile.entries[Tile::first(row, chunk)];
}

struct Matrices {
    SwizzledTile<bf16, 32, 8> plain;
    SwizzledTile<bf16, 8, 32> narrow;
    SwizzledTile<bf16, 8, 64> wide;
};

// x [32][8] is four matrices on top of each other; out [4][4][32] is how, register, lane.
KERNEL(load_matrices, 32, Global<const u16> x, Global<u32> out) {
    SHARED(Matrices, shared);
    const u32 lane = threadIdx.x;
    copy_async<16>(chunk_of(shared.plain, lane, 0), x + 8 * lane);
    wait_for_copies<0>();  // not committed yet: nothing has to have arrived
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
    u32 four[4], two[2];
    ldmatrix(four, chunk_of(shared.plain, lane, 0));
    for (u32 i = 0; i < 4; ++i) out[i * 32 + lane] = four[i];
    ldmatrix_transposed(four, chunk_of(shared.plain, lane, 0));
    for (u32 i = 0; i < 4; ++i) out[(4 + i) * 32 + lane] = four[i];
    ldmatrix(two, chunk_of(shared.plain, lane % 16, 0));
    for (u32 i = 0; i < 2; ++i) out[(8 + i) * 32 + lane] = two[i];
    ldmatrix_transposed(two, chunk_of(shared.plain, lane % 16, 0));
    for (u32 i = 0; i < 2; ++i) out[(12 + i) * 32 + lane] = two[i];
}

// Where each chunk lies, modulo 128 bytes: what decides about bank conflicts.
KERNEL(places, 32, Global<u32> narrow, Global<u32> wide) {
    SHARED(Matrices, shared);
    const bf16 *first = chunk_of(shared.narrow, 0, 0), *first_wide = chunk_of(shared.wide, 0, 0);
    for (u32 row = 0; row < 8; ++row) {
        if (threadIdx.x < 4) {
            narrow[row * 4 + threadIdx.x] =
                (chunk_of(shared.narrow, row, threadIdx.x) - first) / 8 % 8;
        }
        if (threadIdx.x < 8) {
            wide[row * 8 + threadIdx.x] =
                (chunk_of(shared.wide, row, threadIdx.x) - first_wide) / 8 % 8;
        }
    }
}

struct Floats {
    SwizzledTile<float, 4, 32, 2> tile;
};

// The bank in which a lane's float lies, when a warp reads 8 neighbours of each of four rows.
KERNEL(banks_of_floats, 32, Global<u32> banks) {
    SHARED(Floats, shared);
    const u32 lane = threadIdx.x;
    for (u32 chunk = 0; chunk < 8; ++chunk) {
        float* to = chunk_of(shared.tile, lane % 4, chunk);
        if (lane < 4) store4(to, {0.0F, 1.0F, 2.0F, 3.0F});
        const u32 of_first = static_cast<u32>(to - chunk_of(shared.tile, 0, 0));
        __syncthreads();
        const float number = shared.tile.entries[of_first + lane / 4 % 4];
        if (lane / 16 == chunk) banks[lane] = of_first + static_cast<u32>(number);
        __syncthreads();
    }
}

struct Chunks {
    Array<float, 32, 4> four_bytes, eight_bytes, sixteen_bytes;
};

// Each row of x [count][4], by copies of three sizes; rows from `count` on are not there.
KERNEL(copy_rows, 32, Global<const float> x, Global<float> out, u32 count) {
    DYNAMIC_SHARED(Chunks, shared);
    const u32 row = threadIdx.x;
    const bool valid = row < count;
    for (u32 i = 0; i < 4; ++i) {
        copy_async<4>(&shared.four_bytes[row][i], x + (4 * row + i), valid);
    }
    commit_copies();
    for (u32 i = 0; i < 4; i += 2) {
        copy_async<8>(&shared.eight_bytes[row][i], x + (4 * row + i), valid);
    }
    commit_copies();
    copy_async<16>(&shared.sixteen_bytes[row][0], x + 4 * row, valid);
    commit_copies();
    wait_for_copies<2>();
    for (u32 i = 0; i < 4; ++i) out[4 * row + i] = shared.four_bytes[row][i];
    wait_for_copies<1>();
    for (u32 i = 0; i < 4; ++i) out[128 + 4 * row + i] = shared.eight_bytes[row][i];
    wait_for_copies<0>();
    store4(out + (256 + 4 * row), load4(&shared.sixteen_bytes[row][0]));
}

KERNEL(shuffles, 32, Global<const u32> x, Global<u32> out) {
    const u32 lane = threadIdx.x, all = 0xFFFFFFFF, value = x[lane];
    out[lane] = __shfl_sync(all, value, 5);
    out[32 + lane] = __shfl_xor_sync(all, value, 3);
    out[64 + lane] = __shfl_down_sync(all, value, 4);
    out[96 + lane] = __shfl_up_sync(all, value, 4);
    out[128 + lane] = __ballot_sync(all, value % 3 == 0);
}

using Sum = BlockSum<float, 96>;

KERNEL(sums, 96, Global<const float> x, Global<float> of_warp, Global<float> of_block) {
    SHARED(Sum, sum);
    const float value = x[threadIdx.x];
    of_warp[threadIdx.x] = warp_sum(value);
    of_block[threadIdx.x] = sum(value, threadIdx.x);
    of_block[96 + threadIdx.x] = sum(2.0F * value, threadIdx.x);
}

KERNEL(random_words, 32, Global<const u32> counters, Global<u32> words, u32 key0, u32 key1) {
    const u32 i = 4 * threadIdx.x;
    const uint4 drawn =
        philox({counters[i], counters[i + 1], counters[i + 2], counters[i + 3]}, key0, key1);
    words[i] = drawn.x;
    words[i + 1] = drawn.y;
    words[i + 2] = drawn.z;
    words[i + 3] = drawn.w;
}

KERNEL(conversions, 32, Global<const float> x, Global<bf16> narrow, Global<float> back,
       Global<u32> tf32) {
    const u32 i = blockIdx.x * 32 + threadIdx.x;
    narrow[i] = to_bf16(x[i]);
    back[i] = to_float(narrow[i]);
    tf32[i] = to_tf32(x[i]);
}

KERNEL(coordinates, 64, Global<u32> out) {
    const u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const u32 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}
