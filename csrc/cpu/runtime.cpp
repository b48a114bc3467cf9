#include "runtime.hpp"

#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace fercore {
namespace {

constexpr std::size_t alignment = 64;  // a cache line, and the widest vector

int read_threads() {
    const int available = omp_get_max_threads();  // in any case: OpenMP reads its settings now
    const char* text = std::getenv("FERCORE_THREADS");
    if (text == nullptr || *text == '\0') return available;
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    if (*end != '\0' || count < 1 || count > 1024) {
        throw std::invalid_argument("FERCORE_THREADS must be a number from 1 to 1024, not \"" +
                                    std::string(text) + '"');
    }
    return static_cast<int>(count);
}

struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;

    ~Block() { std::free(data); }
};

thread_local Block blocks[static_cast<std::size_t>(Slot::count)];
thread_local int own_threads = 0;  // of the calling thread; 0: all

}  // namespace

int all_threads() {
    static const int count = read_threads();
    return count;
}

int threads() { return own_threads > 0 ? own_threads : all_threads(); }

void set_threads(int count) { own_threads = count; }

void* scratch_bytes(Slot slot, std::size_t bytes) {
    Block& block = blocks[static_cast<std::size_t>(slot)];
    if (block.bytes < bytes) {
        const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
        std::free(block.data);
        block.bytes = 0;
        block.data = std::aligned_alloc(alignment, size);
        if (block.data == nullptr) throw std::bad_alloc();
        std::memset(block.data, 0, size);
        block.bytes = size;
    }
    return block.data;
}

}  // namespace fercore
