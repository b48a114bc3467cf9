// Vectors of eight, four or two numbers, in global memory (checked) and in shared memory (watched).
#pragma once

#include "emulator.hpp"

template <class T>
float4 load4(Global<T> from, emulator::Where where = emulator::Where::current()) {
    const T* x = from.checked(0, 4, where);
    return {to_float(x[0]), to_float(x[1]), to_float(x[2]), to_float(x[3])};
}

template <class T>
void store4(Global<T> to, float4 value, emulator::Where where = emulator::Where::current()) {
    T* x = to.checked(0, 4, where);
    x[0] = from_float<T>(value.x);
    x[1] = from_float<T>(value.y);
    x[2] = from_float<T>(value.z);
    x[3] = from_float<T>(value.w);
}

// `count` neighbours in shared memory that one instruction reads.
template <class T>
const T* watched(const T* from, u64 count, emulator::Where where) {
    const u64 bytes = count * sizeof(T);
    if (reinterpret_cast<u64>(from) % bytes != 0) {
        emulator::fail(where, emulator::format("not aligned to %llu bytes", bytes));
    }
    emulator::read_shared(from, count, where);
    return from;
}

template <class T>
float4 load4(const T* from, emulator::Where where = emulator::Where::current()) {
    const T* x = watched(from, 4, where);
    return {to_float(x[0]), to_float(x[1]), to_float(x[2]), to_float(x[3])};
}

inline void store4(float* to, float4 value, emulator::Where where = emulator::Where::current()) {
    if (reinterpret_cast<u64>(to) % 16 != 0) emulator::fail(where, "not aligned to 16 bytes");
    emulator::write_shared(to, 4, where);
    std::memcpy(to, &value, sizeof value);
}

inline void store8(Global<bf16> to, const u32 (&pairs)[4],
                   emulator::Where where = emulator::Where::current()) {
    std::memcpy(to.checked(0, 8, where), pairs, sizeof pairs);
}

template <class T>
float2 load2(Global<T> from, emulator::Where where = emulator::Where::current()) {
    const T* pair = from.checked(0, 2, where);
    return {to_float(pair[0]), to_float(pair[1])};
}

template <class T>
float2 load2(const T* from, emulator::Where where = emulator::Where::current()) {
    const T* pair = watched(from, 2, where);
    return {to_float(pair[0]), to_float(pair[1])};
}

template <class T>
void store2(Global<T> to, float first, float second,
            emulator::Where where = emulator::Where::current()) {
    T* pair = to.checked(0, 2, where);
    pair[0] = from_float<T>(first);
    pair[1] = from_float<T>(second);
}
