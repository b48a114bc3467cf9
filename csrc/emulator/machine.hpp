// The machine: one block of threads at a time, a fiber each, and what they wait for.
//
// Threads run one after another, each until it waits. A barrier opens when every thread of the
// block has arrived at the same line; a warp's collective is carried out, for all 32 lanes at once,
// by the lane that arrives last. When nobody can run, the kernel is wrong, and the machine tells
// which threads wait where.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <source_location>
#include <string>
#include <vector>

#include "fiber.hpp"

typedef std::uint8_t u8;
typedef std::uint16_t u16;
typedef std::uint32_t u32;
typedef std::uint64_t u64;
typedef std::int32_t i32;
typedef std::int64_t i64;

struct uint3 {
    u32 x, y, z;
};

struct dim3 : uint3 {};

// CUDA's names for where a thread is; the machine sets them before it resumes one.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulator {

using Where = std::source_location;

constexpr u32 lanes = 32, most_threads = 1024;
constexpr std::size_t page = 4096, stack_bytes = 128 * 1024;
constexpr u64 stack_end = 0x5AFE57AC;  // below it begins the stack of another thread

// One argument of a launch. `bytes` is the size of a buffer, or 0 for a number.
struct Argument {
    const char* name;
    const void* value;
    u64 bytes;
};

struct Launch {
    u32 grid[3], block[3];
    u32 shared_bytes;
    u32 order;  // 0 forward, 1 reverse, 2 random
    u64 seed;
    const Argument* arguments;
    char* message;  // of `message_bytes`, for what went wrong
    u64 message_bytes;
};

enum class State : u8 { ready, at_barrier, in_collective, finished };

// Bytes on their way from global to shared memory.
struct AsyncCopy {
    char* to;
    const char* from;
    u32 bytes, valid;
    u32 group;
    Where where;
};

struct Thread {
    Fiber fiber;
    State state;
    Where where;  // what it waits for
    std::vector<AsyncCopy> copies;
    u32 copy_group;
};

struct Warp {
    void* arguments[lanes];
    u32 arrived, epoch;  // `epoch` counts __syncwarp()
    Where where;
};

struct Machine {
    const Launch* launch;
    const char* kernel;
    void (*body)();
    u32 threads, current;
    Fiber scheduler;
    std::vector<Thread> thread = std::vector<Thread>(most_threads);
    Warp warp[most_threads / lanes];
    std::vector<u32> order;
    u64 random;
    u32 runnable, waiting, finished;
    u32 launches = 0;
    u32 epoch = 1, block_epoch = 1;  // barriers passed since loading, now and when the block began
    bool failed;
    // Pages that no thread reaches are never used.
    char* stacks = static_cast<char*>(std::aligned_alloc(page, most_threads* stack_bytes));
};

inline Machine machine;

inline Thread& current_thread() { return machine.thread[machine.current]; }
inline Warp& current_warp() { return machine.warp[machine.current / lanes]; }

inline void switch_out(State state, const Where& where) {
    Thread& thread = current_thread();
    thread.state = state;
    thread.where = where;
    --machine.runnable;
    Fiber::change(thread.fiber, machine.scheduler);
}

// -- what went wrong ------------------------------------------------------------------------------

inline std::string format(const char* text, ...) {
    char buffer[1024];
    va_list values;
    va_start(values, text);
    std::vsnprintf(buffer, sizeof buffer, text, values);
    va_end(values);
    return buffer;
}

inline std::string at(const Where& where) {
    return format("%s:%u", where.file_name(), where.line());
}

// The first failure of a launch is the one that is told.
inline void record_failure(const std::string& text) {
    if (!machine.failed) {
        std::snprintf(machine.launch->message, machine.launch->message_bytes, "%s", text.c_str());
    }
    machine.failed = true;
}

inline std::string thread_name(u32 thread) {
    const u32* block = machine.launch->block;
    if (block[1] == 1 && block[2] == 1) return format("thread %u", thread);
    return format("thread (%u, %u, %u)", thread % block[0], thread / block[0] % block[1],
                  thread / (block[0] * block[1]));
}

inline std::string block_name() {
    return format("%s, block (%u, %u, %u)", machine.kernel, blockIdx.x, blockIdx.y, blockIdx.z);
}

// Ends the launch from inside a thread, whose fiber is abandoned where it stands.
[[noreturn]] inline void fail(const Where& where, const std::string& text) {
    record_failure(at(where) + ": " + block_name() + ", " + thread_name(machine.current) + ": " +
                   text);
    Fiber::change(current_thread().fiber, machine.scheduler);
    __builtin_unreachable();
}

// "threads 0-31 finished; threads 32-63 wait at barrier FILE:LINE"
inline std::string describe_threads() {
    const auto describe = [](const Thread& thread) -> std::string {
        if (thread.state == State::finished) return "finished";
        const char* what = thread.state == State::at_barrier ? "barrier" : "warp collective";
        return std::string("wait at ") + what + " " + at(thread.where);
    };
    std::string text;
    for (u32 first = 0, last; first < machine.threads; first = last + 1) {
        const std::string same = describe(machine.thread[first]);
        last = first;
        while (last + 1 < machine.threads && describe(machine.thread[last + 1]) == same) ++last;
        text += first == 0 ? "" : "; ";
        text += first == last ? format("thread %u ", first) : format("threads %u-%u ", first, last);
        text += same;
    }
    return text;
}

// -- waiting --------------------------------------------------------------------------------------

inline void barrier(const Where& where) {
    ++machine.waiting;
    switch_out(State::at_barrier, where);
}

// Every lane hands in its arguments; the last to arrive calls `together` for the whole warp.
template <class Arguments>
void collective(Arguments& mine, void (*together)(Arguments* const* lane), const Where& where) {
    Warp& warp = current_warp();
    if (machine.threads % lanes != 0) {
        fail(where, "a warp collective in a block that is not a multiple of 32 threads");
    }
    if (warp.arrived > 0 && warp.where.line() != where.line()) {
        fail(where, "divergent warp: other lanes wait at " + at(warp.where));
    }
    warp.where = where;
    warp.arguments[machine.current % lanes] = &mine;
    if (++warp.arrived < lanes) return switch_out(State::in_collective, where);
    warp.arrived = 0;
    together(reinterpret_cast<Arguments* const*>(warp.arguments));
    const u32 first = machine.current / lanes * lanes;
    for (u32 t = first; t < first + lanes; ++t) machine.thread[t].state = State::ready;
    machine.runnable += lanes - 1;
}

// -- one block ------------------------------------------------------------------------------------

inline u64& end_of_stack(u32 thread) {
    return *reinterpret_cast<u64*>(machine.stacks + thread * stack_bytes);
}

inline void run_thread() {
    machine.body();
    if (end_of_stack(machine.current) != stack_end) {
        fail(Where::current(), "more than 128 KB of local arrays");
    }
    ++machine.finished;
    switch_out(State::finished, Where());
    __builtin_unreachable();
}

inline void set_order(std::vector<u32>& order, u32 count) {
    order.resize(count);
    std::iota(order.begin(), order.end(), 0);
    if (machine.launch->order == 1) std::reverse(order.begin(), order.end());
    if (machine.launch->order != 2) return;
    for (u32 left = count; left > 1; --left) {  // Fisher and Yates, with Marsaglia's xorshift64
        machine.random ^= machine.random << 13;
        machine.random ^= machine.random >> 7;
        machine.random ^= machine.random << 17;
        std::swap(order[left - 1], order[machine.random % left]);
    }
}

// Opens the barrier where all threads wait, or records why it stays shut.
inline void open_barrier() {
    const Where& where = machine.thread[0].where;
    bool together = machine.waiting == machine.threads;
    for (u32 t = 0; t < machine.threads && together; ++t) {
        together = machine.thread[t].where.line() == where.line();
    }
    if (!together) {
        return record_failure(block_name() +
                              ": divergent barrier or warp collective: " + describe_threads());
    }
    for (u32 t = 0; t < machine.threads; ++t) machine.thread[t].state = State::ready;
    machine.runnable = machine.threads;
    machine.waiting = 0;
    ++machine.epoch;
    if (machine.launch->order == 2) set_order(machine.order, machine.threads);
}

inline void run_block() {
    machine.runnable = machine.threads;
    machine.waiting = machine.finished = 0;
    machine.block_epoch = ++machine.epoch;
    for (u32 t = 0; t < machine.threads; ++t) {
        Thread& thread = machine.thread[t];
        thread.state = State::ready;
        thread.copies.clear();
        thread.copy_group = 0;
        // Tops staggered within a page, or all stacks would share the same few cache lines.
        const std::size_t stagger = t * 320 % page;
        char* top = machine.stacks + (t + 1) * stack_bytes - stagger;
        end_of_stack(t) = stack_end;
        thread.fiber.start(top, stack_bytes - page - stagger, run_thread);
    }
    for (u32 w = 0; w < machine.threads / lanes; ++w) machine.warp[w].arrived = 0;
    set_order(machine.order, machine.threads);
    const u32* block = machine.launch->block;
    while (!machine.failed && machine.finished < machine.threads) {
        if (machine.runnable == 0) open_barrier();
        for (u32 i = 0; i < machine.threads && !machine.failed; ++i) {
            const u32 t = machine.order[i];
            if (machine.thread[t].state != State::ready) continue;
            machine.current = t;
            threadIdx = {t % block[0], t / block[0] % block[1], t / (block[0] * block[1])};
            Fiber::change(machine.scheduler, machine.thread[t].fiber);
        }
    }
}

}  // namespace emulator
