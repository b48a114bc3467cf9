// CUDA's barriers and warp collectives, by CUDA's names. Every lane of a warp must take part.
#pragma once

#include "machine.hpp"

inline void __syncthreads(emulator::Where where = emulator::Where::current()) {
    emulator::barrier(where);
}

inline void __syncwarp(emulator::Where where = emulator::Where::current()) {
    struct Nothing {
    } nothing;
    emulator::collective<Nothing>(
        nothing, [](Nothing* const*) { ++emulator::current_warp().epoch; }, where);
}

namespace emulator {

// Each lane gets the value of lane `source`, or keeps its own if that is outside of the warp.
template <class T>
T shuffle(u32 mask, T value, u32 source, const Where& where) {
    if (mask != 0xFFFFFFFF) fail(where, "a shuffle whose mask leaves lanes out");
    struct Lane {
        T value, received;
        u32 source;
    } mine{value, value, source};
    collective<Lane>(
        mine,
        [](Lane* const* lane) {
            for (u32 i = 0; i < lanes; ++i) {
                const u32 from = lane[i]->source < lanes ? lane[i]->source : i;
                lane[i]->received = lane[from]->value;
            }
        },
        where);
    return mine.received;
}

inline u32 lane_index() { return machine.current % lanes; }

}  // namespace emulator

template <class T>
T __shfl_sync(u32 mask, T value, u32 lane, emulator::Where where = emulator::Where::current()) {
    return emulator::shuffle(mask, value, lane % emulator::lanes, where);
}

template <class T>
T __shfl_xor_sync(u32 mask, T value, u32 bits, emulator::Where where = emulator::Where::current()) {
    return emulator::shuffle(mask, value, emulator::lane_index() ^ bits, where);
}

template <class T>
T __shfl_down_sync(u32 mask, T value, u32 by, emulator::Where where = emulator::Where::current()) {
    return emulator::shuffle(mask, value, emulator::lane_index() + by, where);
}

template <class T>
T __shfl_up_sync(u32 mask, T value, u32 by, emulator::Where where = emulator::Where::current()) {
    return emulator::shuffle(mask, value, emulator::lane_index() - by, where);
}

inline u32 __ballot_sync(u32 mask, bool vote, emulator::Where where = emulator::Where::current()) {
    if (mask != 0xFFFFFFFF) emulator::fail(where, "a ballot whose mask leaves lanes out");
    struct Lane {
        bool vote;
        u32 votes;
    } mine{vote, 0};
    emulator::collective<Lane>(
        mine,
        [](Lane* const* lane) {
            u32 votes = 0;
            for (u32 i = 0; i < emulator::lanes; ++i) votes |= u32{lane[i]->vote} << i;
            for (u32 i = 0; i < emulator::lanes; ++i) lane[i]->votes = votes;
        },
        where);
    return mine.votes;
}
