// A launch: the kernel's parameters from their packed values, then block after block.
#pragma once

#include <mutex>
#include <tuple>
#include <utility>

#include "shared.hpp"

namespace emulator {

template <class T>
struct Unpack {
    static T from(const Argument& argument) { return *static_cast<const T*>(argument.value); }
};

template <class T>
struct Unpack<Global<T>> {
    static Global<T> from(const Argument& argument) {
        return {*static_cast<T* const*>(argument.value), argument.bytes / sizeof(T)};
    }
};

inline std::mutex one_at_a_time;  // Python lets go of its own lock during a launch

// Launches `kernel`, whose blocks have at most `most` threads; returns 0, or 1 with a message.
template <class... Parameters>
int launch(const char* name, u32 most, void (*kernel)(Parameters...), const Launch& launch) {
    const std::lock_guard lock(one_at_a_time);
    static void (*body)(Parameters...);
    static std::tuple<Parameters...> parameters;

    machine.launch = &launch;
    machine.kernel = name;
    machine.threads = launch.block[0] * launch.block[1] * launch.block[2];
    machine.failed = false;
    machine.random = launch.seed * 2 + 1;
    ++machine.launches;
    if (machine.threads == 0 || machine.threads > most) {
        record_failure(format("%s: a block of %u threads, where 1 to %u are allowed", name,
                              machine.threads, most));
        return 1;
    }
    body = kernel;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        parameters = {Unpack<Parameters>::from(launch.arguments[I])...};
    }(std::index_sequence_for<Parameters...>{});
    machine.body = [] { std::apply(body, parameters); };
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};

    shared_memory.begin_launch();
    std::vector<u32> blocks;
    set_order(blocks, gridDim.x * gridDim.y * gridDim.z);
    for (const u32 block : blocks) {
        blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y,
                    block / (gridDim.x * gridDim.y)};
        shared_memory.begin_block();
        run_block();
        shared_memory.check_guards();
        if (machine.failed) return 1;
    }
    return 0;
}

}  // namespace emulator
