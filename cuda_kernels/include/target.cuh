// The one header that knows what a kernel is compiled for: a GPU, by NVRTC or nvcc, or the emulator
// on a CPU, by g++. Kernels are written in CUDA C++ with its own names (threadIdx, __syncthreads,
// fmaf, ...); what differs between the two has one name here or in one of the headers beside it.
#pragma once

#ifdef __CUDACC__

#define ON_GPU 1

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

// A function that kernels call.
#define DEVICE __device__ __forceinline__

// The same number, but computed here and kept in a register: compilers tend to compute once more,
// wherever it is used, what they can see through.
DEVICE u32 kept(u32 x) {
    asm("" : "+r"(x));
    return x;
}

// Two blocks have to fit a multiprocessor, so that one computes while the other waits; without that
// number the compiler spills registers on some architectures to make room for more.
#if !defined(BLOCKS_AT_ONCE)
#define BLOCKS_AT_ONCE 2
#endif
#define DEFINE_KERNEL(name, threads, ...) \
    extern "C" __global__ void __launch_bounds__(threads, BLOCKS_AT_ONCE) name(__VA_ARGS__)

// A buffer in global memory, null if it is absent. Each is a buffer of its own: a kernel that works
// in place has one parameter for what it reads and writes. The emulator checks every access.
template <class T>
using Global = T* __restrict__;

#else

#define ON_GPU 0

#include "emulator.hpp"

#define DEVICE inline

DEVICE u32 kept(u32 x) { return x; }

#define DEFINE_KERNEL(name, ...) EMULATED_KERNEL(name, __VA_ARGS__)

#endif

// KERNEL(scale, 256, Global<float> x, u32 count, float factor) { ... }
// A kernel, the most threads that one of its blocks may have, and its parameters: buffers and
// numbers. They are read from the source text, too, so each is written out here, with no macro.
// A source that is compiled again with other macros has names with another SUFFIX (see tiles.py).
#define KERNEL(name, ...) DEFINE_KERNEL(JOINED(name, SUFFIX), __VA_ARGS__)
#define JOINED(name, suffix) JOINED_EXPANDED(name, suffix)
#define JOINED_EXPANDED(name, suffix) name##suffix
#if !defined(SUFFIX)
#define SUFFIX
#endif
