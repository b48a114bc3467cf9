// Asynchronous copies that arrive as late as the rules allow.
//
// The destination becomes NaN at once and holds the data only when its thread waits for the group:
// a wait that is missing, or a buffer that is refilled while somebody still reads it, shows.
#pragma once

#include "shared.hpp"

namespace emulator {

template <u32 Bytes>
void copy_async(void* to, const void* from, bool valid, const Where& where) {
    const auto misaligned = [](const void* p) { return reinterpret_cast<u64>(p) % Bytes != 0; };
    if (misaligned(to) || (valid && misaligned(from))) {
        fail(where, format("an asynchronous copy of %u bytes is not aligned to them", Bytes));
    }
    // Notes are kept for the smallest entries that can lie there.
    Note* note = notes_of(to, Bytes, where);
    for (u32 i = 0; i < Bytes / 2; ++i) note_write(note[i], where, true);
    std::memset(to, poison, Bytes);
    Thread& thread = current_thread();
    thread.copies.push_back({static_cast<char*>(to), static_cast<const char*>(from), Bytes,
                             valid ? Bytes : 0, thread.copy_group, where});
}

inline void deliver(const AsyncCopy& copy) {
    std::memcpy(copy.to, copy.from, copy.valid);
    std::memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
    Note* note = notes_of(copy.to, copy.bytes, copy.where);
    for (u32 i = 0; i < copy.bytes / 2; ++i) note_write(note[i], copy.where);
}

// All groups of this thread but the `pending` latest ones have arrived.
inline void wait_for_copies(u32 pending) {
    Thread& thread = current_thread();
    u32 delivered = 0;
    for (const AsyncCopy& copy : thread.copies) {
        if (copy.group + pending >= thread.copy_group) break;
        deliver(copy);
        ++delivered;
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + delivered);
}

}  // namespace emulator

template <u32 Bytes, class T>
void copy_async(void* to, Global<T> from, bool valid = true,
                emulator::Where where = emulator::Where::current()) {
    constexpr u32 count = Bytes / sizeof(T);
    emulator::copy_async<Bytes>(to, valid ? from.checked(0, count, where) : nullptr, valid, where);
}

inline void commit_copies() { ++emulator::current_thread().copy_group; }

template <u32 Pending>
void wait_for_copies() {
    emulator::wait_for_copies(Pending);
}
