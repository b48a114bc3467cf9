// Shared memory.
//
//     struct Tiles {
//         Array<float, 16, 64> a, b;  // float[16][64]; the emulator watches every access
//     };
//     SHARED(Tiles, tiles);           // then tiles.a[k][m] = ...
//
// SHARED is sized by the compiler, up to 48 KB a kernel. Above that, DYNAMIC_SHARED takes what the
// launch gives it, one structure a kernel; its alignment is 16 bytes at least.
#pragma once

#include "target.cuh"

#if ON_GPU

template <class T, int Size, int... Rest>
struct ArrayType {
    using type = typename ArrayType<T, Rest...>::type[Size];
};
template <class T, int Size>
struct ArrayType<T, Size> {
    using type = T[Size];
};
template <class T, int... Sizes>
using Array = typename ArrayType<T, Sizes...>::type;

#define SHARED(Struct, name) __shared__ Struct name

#define DYNAMIC_SHARED(Struct, name)                                      \
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
    Struct& name = *reinterpret_cast<Struct*>(dynamic_shared_bytes)

#else

#include "shared.hpp"

#endif
