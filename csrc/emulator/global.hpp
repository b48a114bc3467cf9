// Pointers to global memory that know where their buffer begins and ends.
#pragma once

#include <concepts>
#include <type_traits>

#include "machine.hpp"

namespace emulator {

// An index, and the line of the kernel that wrote it.
struct Index {
    i64 value;
    Where where;

    template <std::integral Integer>
    Index(Integer value, Where where = Where::current())
        : value(static_cast<i64>(value)), where(where) {}
};

inline const char* buffer_name(const void* begin) {
    for (const Argument* a = machine.launch->arguments; a->name != nullptr; ++a) {
        if (a->bytes > 0 && *static_cast<void* const*>(a->value) == begin) return a->name;
    }
    return "a buffer";
}

}  // namespace emulator

template <class T>
class Global {
  public:
    Global(std::nullptr_t = nullptr) {}
    Global(T* begin, u64 count) : pointer_(begin), begin_(begin), end_(begin + count) {}
    template <class U>
        requires std::is_same_v<const U, T>
    Global(Global<U> other) : pointer_(other.pointer_), begin_(other.begin_), end_(other.end_) {}

    T& operator[](emulator::Index index) const { return *checked(index.value, 1, index.where); }
    T& operator*() const { return *checked(0, 1, emulator::Where::current()); }
    explicit operator bool() const { return pointer_ != nullptr; }
    bool operator==(std::nullptr_t) const { return pointer_ == nullptr; }

    template <std::integral Integer>
    Global operator+(Integer offset) const {
        Global moved = *this;
        moved.pointer_ += offset;
        return moved;
    }
    template <std::integral Integer>
    Global& operator+=(Integer offset) {
        pointer_ += offset;
        return *this;
    }

    // The address of `count` entries from `index` on, aligned to all of them.
    T* checked(i64 index, u32 count, const emulator::Where& where) const {
        T* first = pointer_ + index;
        if (first < begin_ || first + count > end_) out_of_bounds(first, count, where);
        if (reinterpret_cast<std::uintptr_t>(first) % (count * sizeof(T)) != 0) {
            emulator::fail(where, emulator::format("%s[%lld] is not aligned to %u bytes",
                                                   emulator::buffer_name(begin_),
                                                   static_cast<long long>(first - begin_),
                                                   u32(count * sizeof(T))));
        }
        return first;
    }

  private:
    template <class>
    friend class Global;

    [[noreturn, gnu::cold]] void out_of_bounds(T* first, u32 count,
                                               const emulator::Where& where) const {
        if (begin_ == nullptr) emulator::fail(where, "a buffer that is absent (null) is used");
        const long long index = first - begin_, entries = end_ - begin_;
        const char* name = emulator::buffer_name(begin_);
        if (count == 1) {
            emulator::fail(where, emulator::format("%s[%lld] is outside its %lld entries", name,
                                                   index, entries));
        }
        emulator::fail(where, emulator::format("%s[%lld..%lld] is outside its %lld entries", name,
                                               index, index + count - 1, entries));
    }

    T *pointer_ = nullptr, *begin_ = nullptr, *end_ = nullptr;
};
