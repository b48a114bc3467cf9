// Shared memory: NaN at first, guarded, and watched.
//
// Entries of an `Array` are reached through references that note who reads and who writes. Two
// accesses of one entry by two threads, one of them a write, need a __syncthreads() between them
// (or a __syncwarp() within a warp): where there is none, the kernel has a race, whatever the order
// in which threads happen to run. Notes are kept for each two bytes.
#pragma once

#include "global.hpp"

namespace emulator {

constexpr u32 most_static = 48 * 1024, most_shared = 227 * 1024, guard_bytes = 128;
constexpr u8 guard_value = 0xFD, poison = 0xFF;  // as a float or a bf16, all poison is NaN

// What is known about two bytes of shared memory; epochs are the machine's and the warp's. `reader`
// is a thread, or `several_warps`, or several threads of one warp, marked by the highest bit.
struct Note {
    Where written_at, read_at;
    u32 write_epoch, read_epoch;
    u32 write_warp_epoch, read_warp_epoch;
    u16 writer, reader;
    bool in_flight;  // written by an asynchronous copy that nobody has waited for
};
constexpr u16 several_of_a_warp = 0x8000, several_warps = 0xFFFF;

// Where a SHARED or DYNAMIC_SHARED structure lies in the launch that runs.
struct Region {
    const char* name;
    Where where;
    u32 launch = 0, offset = 0, size = 0;
};

struct SharedMemory {
    alignas(1024) u8 bytes[most_shared + 64 * 1024];
    Note notes[sizeof bytes / 2];
    std::vector<Region*> regions;
    u32 used, static_bytes;

    void begin_launch() {
        regions.clear();
        used = static_bytes = 0;
    }

    void begin_block() {
        for (const Region* region : regions) prepare(*region);
    }

    void prepare(const Region& region) {
        std::memset(bytes + region.offset, poison, region.size);
        std::memset(bytes + region.offset + region.size, guard_value, guard_bytes);
    }

    // The first thread to get there finds a place, aligned like the start of a GPU's.
    void place(Region& region, u32 size) {
        region.launch = machine.launches;
        region.size = size;
        region.offset = (used + 1023) / 1024 * 1024;
        used = region.offset + size + guard_bytes;
        if (used > sizeof bytes) fail(region.where, "more shared memory than any GPU has");
        regions.push_back(&region);
        prepare(region);
    }

    // Stray writes through raw pointers, which no Array could see.
    void check_guards() {
        for (const Region* region : regions) {
            const u8* guard = bytes + region->offset + region->size;
            if (!std::any_of(guard, guard + guard_bytes, [](u8 b) { return b != guard_value; })) {
                continue;
            }
            record_failure(at(region->where) + ": " + block_name() +
                           ": shared memory is overwritten past the end of " + region->name);
        }
    }
};
inline SharedMemory shared_memory;

template <class Struct>
Struct& static_shared(Region& region) {
    static_assert(sizeof(Struct) <= most_static, "above 48 KB use DYNAMIC_SHARED");
    if (region.launch != machine.launches) {
        shared_memory.static_bytes += sizeof(Struct);
        if (shared_memory.static_bytes > most_static) {
            fail(region.where, "more than 48 KB of SHARED; use DYNAMIC_SHARED");
        }
        shared_memory.place(region, sizeof(Struct));
    }
    return *reinterpret_cast<Struct*>(shared_memory.bytes + region.offset);
}

template <class Struct>
Struct& dynamic_shared(Region& region) {
    const u32 size = machine.launch->shared_bytes;
    if (size < sizeof(Struct)) {
        fail(region.where, format("%s has %zu bytes, but the launch gives %u of shared memory",
                                  region.name, sizeof(Struct), size));
    }
    if (region.launch != machine.launches) shared_memory.place(region, size);
    return *reinterpret_cast<Struct*>(shared_memory.bytes + region.offset);
}

// -- who reads and who writes ---------------------------------------------------------------------

[[noreturn, gnu::cold]] inline void race(const Where& where, const char* now, const char* before,
                                         const std::string& whose, const Where& there) {
    fail(where, std::string("race in shared memory: it ") + now + " what " + whose + " " + before +
                    " at " + at(there) + ", with no barrier between");
}

// The notes of shared bytes; fails for an address outside.
inline Note* notes_of(const void* address, u32 bytes, const Where& where) {
    const u64 offset = static_cast<const u8*>(address) - shared_memory.bytes;
    if (offset + bytes > shared_memory.used) {
        fail(where, format("%u bytes outside of shared memory are used as if inside", bytes));
    }
    return shared_memory.notes + offset / 2;
}

inline bool ordered_in_warp(u16 other, u32 other_warp_epoch) {
    return other / lanes == machine.current / lanes && other_warp_epoch != current_warp().epoch;
}

inline void note_read(Note& note, const Where& where) {
    const u16 me = static_cast<u16>(machine.current);
    if (note.write_epoch < machine.block_epoch) {
        fail(where, "reads shared memory that nobody has written yet");
    }
    if (note.in_flight) {
        fail(where, "reads what the asynchronous copy at " + at(note.written_at) +
                        " may not have delivered: a wait is missing");
    }
    if (note.write_epoch == machine.epoch && note.writer != me &&
        !ordered_in_warp(note.writer, note.write_warp_epoch)) {
        race(where, "reads", "wrote", thread_name(note.writer), note.written_at);
    }
    if (note.read_epoch != machine.epoch) {
        note.reader = me;
    } else if (note.reader != me && note.reader != several_warps) {
        const u32 warp = (note.reader & ~several_of_a_warp) / lanes;
        note.reader = warp == me / lanes ? several_of_a_warp | me : several_warps;
    }
    note.read_epoch = machine.epoch;
    note.read_warp_epoch = current_warp().epoch;
    note.read_at = where;
}

inline void note_write(Note& note, const Where& where, bool in_flight = false) {
    const u16 me = static_cast<u16>(machine.current);
    if (note.write_epoch == machine.epoch && note.writer != me &&
        !ordered_in_warp(note.writer, note.write_warp_epoch)) {
        race(where, "overwrites", "wrote", thread_name(note.writer), note.written_at);
    }
    if (note.read_epoch == machine.epoch && note.reader != me &&
        (note.reader == several_warps ||
         !ordered_in_warp(note.reader & ~several_of_a_warp, note.read_warp_epoch))) {
        const bool one = (note.reader & several_of_a_warp) == 0;
        race(where, "overwrites", "read", one ? thread_name(note.reader) : "another thread",
             note.read_at);
    }
    note.write_epoch = machine.epoch;
    note.write_warp_epoch = current_warp().epoch;
    note.writer = me;
    note.written_at = where;
    note.in_flight = in_flight;
}

// `count` consecutive entries; single bytes share their notes and are not watched.
template <class T>
void read_shared(const T* address, u32 count, const Where& where) {
    Note* note = notes_of(address, count * sizeof(T), where);
    if constexpr (sizeof(T) > 1) {
        for (u32 i = 0; i < count; ++i) note_read(note[i * sizeof(T) / 2], where);
    }
}

template <class T>
void write_shared(T* address, u32 count, const Where& where) {
    Note* note = notes_of(address, count * sizeof(T), where);
    if constexpr (sizeof(T) > 1) {
        for (u32 i = 0; i < count; ++i) note_write(note[i * sizeof(T) / 2], where);
    }
}

[[noreturn, gnu::cold]] inline void bad_index(const Index& index, int size) {
    fail(index.where, format("index %lld of an array of %d in shared memory",
                             static_cast<long long>(index.value), size));
}

template <class T>
class SharedReference {
  public:
    SharedReference(T* address, const Where& where) : address_(address), where_(where) {}
    SharedReference(const SharedReference&) = default;

    operator T() const {
        read_shared(address_, 1, where_);
        return *address_;
    }
    const SharedReference& operator=(T value) const {
        write_shared(address_, 1, where_);
        *address_ = value;
        return *this;
    }
    const SharedReference& operator=(const SharedReference& other) const {
        return *this = T(other);
    }
    const SharedReference& operator+=(T value) const { return *this = T(*this) + value; }
    T* operator&() const { return address_; }

  private:
    T* address_;
    Where where_;
};

}  // namespace emulator

template <class T, int Size, int... Rest>
struct Array {
    Array<T, Rest...> items[Size];

    Array<T, Rest...>& operator[](emulator::Index i) {
        if (i.value < 0 || i.value >= Size) emulator::bad_index(i, Size);
        return items[i.value];
    }
};

template <class T, int Size>
struct Array<T, Size> {
    T items[Size];

    emulator::SharedReference<T> operator[](emulator::Index i) {
        if (i.value < 0 || i.value >= Size) emulator::bad_index(i, Size);
        return {items + i.value, i.where};
    }
};

#define SHARED(Struct, name)                                                                   \
    static emulator::Region name##_region{#name " (" #Struct ")", emulator::Where::current()}; \
    Struct& name = emulator::static_shared<Struct>(name##_region)

#define DYNAMIC_SHARED(Struct, name)                                                           \
    static emulator::Region name##_region{#name " (" #Struct ")", emulator::Where::current()}; \
    Struct& name = emulator::dynamic_shared<Struct>(name##_region)
