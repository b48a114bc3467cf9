// Vectors of four floats, in global memory (checked) and in shared memory (watched).
#pragma once

#include "emulator.hpp"

template <class T>
float4 load4(Global<T> from, emulator::Where where = emulator::Where::current()) {
    const float* x = from.checked(0, 4, where);
    return {x[0], x[1], x[2], x[3]};
}

inline void store4(Global<float> to, float4 value,
                   emulator::Where where = emulator::Where::current()) {
    std::memcpy(to.checked(0, 4, where), &value, sizeof value);
}

inline float4 load4(const float* from, emulator::Where where = emulator::Where::current()) {
    if (reinterpret_cast<u64>(from) % 16 != 0) emulator::fail(where, "not aligned to 16 bytes");
    emulator::read_shared(from, 4, where);
    return {from[0], from[1], from[2], from[3]};
}

inline void store4(float* to, float4 value, emulator::Where where = emulator::Where::current()) {
    if (reinterpret_cast<u64>(to) % 16 != 0) emulator::fail(where, "not aligned to 16 bytes");
    emulator::write_shared(to, 4, where);
    std::memcpy(to, &value, sizeof value);
}

template <class T>
void store2(Global<T> to, float first, float second,
            emulator::Where where = emulator::Where::current()) {
    T* pair = to.checked(0, 2, where);
    pair[0] = from_float<T>(first);
    pair[1] = from_float<T>(second);
}
