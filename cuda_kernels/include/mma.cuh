// Tensor cores (sm_80 and up): small matrix products by the 32 threads of a warp together.
//
// Each thread (lane) holds a few entries of each matrix. With g = lane / 4 and c = lane % 4:
//
//   mma_m16n8k16_bf16, d [16][8] += a [16][16] b [16][8], two neighbours in k a register:
//     a0 = a[g][2c..]    a1 = a[g+8][2c..]    a2 = a[g][2c+8..]    a3 = a[g+8][2c+8..]
//     b0 = b[2c..][g]    b1 = b[2c+8..][g]
//   mma_m16n8k8_tf32, d [16][8] += a [16][8] b [8][8], one tf32 (see to_tf32) a register:
//     a0 = a[g][c]       a1 = a[g+8][c]       a2 = a[g][c+4]       a3 = a[g+8][c+4]
//     b0 = b[c][g]       b1 = b[c+4][g]
//   both, in float32:
//     d0, d1 = d[g][2c, 2c+1]                 d2, d3 = d[g+8][2c, 2c+1]
//
// ldmatrix loads 8x8 matrices of bf16 from shared memory into that layout: matrix m has its row r
// at the address (a multiple of 16 bytes) given by lane 8m + r, and register m of a lane receives
// entries (g, 2c) and (g, 2c+1); ldmatrix_transposed, entries (2c, g) and (2c+1, g).
#pragma once

#include "shared.cuh"

#if ON_GPU

DEVICE void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

DEVICE void ldmatrix(u32 (&d)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldmatrix(u32 (&d)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldmatrix_transposed(u32 (&d)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldmatrix_transposed(u32 (&d)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(shared_address(row))
                 : "memory");
}

#else

#include "tensor_core.hpp"

#endif
