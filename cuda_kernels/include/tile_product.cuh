// Matrix products on tensor cores (sm_80 and up), in the precisions of fragments.cuh:
//
//   c [rows][columns] = sum over k of a(row, k) b(column, k)
//
//   block    128x128 of c by 4 warps, 64 bytes of terms (32 bf16 or 16 floats) at a time; three
//            such stages of a and b in shared memory (48 KB): two are on their way while one is
//            used
//   warp     64x64 of c: 4x8 products of 16x8, 128 sums in the registers of each thread
//   copies   16 bytes by cp.async straight to shared memory, swizzled against bank conflicts, zeros
//            where an operand has nothing
//
// Other tiles are the same source with other macros: 128x64 and 64x128 of four stages (48 KB) and
// half as many sums a thread, 64x64 (32 KB) and a quarter. An entry of c is the same terms in the
// same order through the same instruction in all of them, so its bits are the same.
//
// A stage is, to a warp of 128x128, 16 ldmatrix for 64 mma in bf16; the same in tf32, for half as
// many terms (where floats lie along rows, four loads stand for each ldmatrix); in bf16x3 96 mma
// for those. 128x64 takes 12 ldmatrix for half the mma, 64x64 8 for a quarter.
// mma.sync reaches about 63 % of a Hopper's peak; the rest needs wgmma.
#pragma once

#include "async_copy.cuh"
#include "fragments.cuh"
#include "place.cuh"

#if !defined(TILE_ROWS)
#define TILE_ROWS 128
#define TILE_COLUMNS 128
#endif

constexpr u32 threads = 128;
constexpr u32 tile_rows = TILE_ROWS, tile_columns = TILE_COLUMNS;
constexpr u32 warp_rows = tile_rows / 2, warp_columns = tile_columns / 2;
constexpr u32 bytes_of_stage = 16 * chunks_of_stage * (tile_rows + tile_columns);
constexpr u32 stages = 4 * bytes_of_stage <= 48 << 10 ? 4 : 3;

// -- operands -------------------------------------------------------------------------------------

// An operand in global memory; 16 bytes of it, along k or (AlongK false) along its rows, are always
// in one place. `row` gives the place of a row, by its number. `terms` walks over the terms:
// seek(k) goes to one, advance(count) further on, place() tells its place.
template <bool Along, class T, class RowPlace, class TermWalk>
struct Operand {
    using Entry = T;
    using Walk = TermWalk;
    static constexpr bool along_k = Along;

    Global<const T> data;
    Image image;
    RowPlace row;
    TermWalk terms;
};

template <class T, class RowPlace, class TermWalk>
DEVICE Operand<true, T, RowPlace, TermWalk> along_k(Global<const T> data, Image image, RowPlace row,
                                                    TermWalk terms) {
    return {data, image, row, terms};
}

template <class T, class RowPlace, class TermWalk>
DEVICE Operand<false, T, RowPlace, TermWalk> along_rows(Global<const T> data, Image image,
                                                        RowPlace row, TermWalk terms) {
    return {data, image, row, terms};
}

// The rows, and the terms, of a matrix: `count` lines, `step` entries apart.
struct Lines {
    u32 count, step;

    DEVICE Place operator()(u32 i) const { return line(i, count, step); }
};

struct LineWalk {
    u32 count, step, at = 0;

    DEVICE void seek(u32 k) { at = k; }
    DEVICE void advance(u32 by) { at += by; }
    DEVICE Place place() const { return line(at, count, step); }
};

// A matrix [rows][depth], and one [depth][rows].
template <class T>
DEVICE auto matrix_along_k(Global<const T> data, u32 rows, u32 depth) {
    return along_k(data, Image{}, Lines{rows, depth}, LineWalk{depth, 1});
}

template <class T>
DEVICE auto matrix_along_rows(Global<const T> data, u32 rows, u32 depth) {
    return along_rows(data, Image{}, Lines{rows, 1}, LineWalk{depth, rows});
}

// A thread's share of an operand's tile: in each pass one chunk. Threads of a line, which lies
// along k or along rows, copy neighbouring chunks. All chunks of a thread are of the same terms, so
// these are looked for once a stage; where its rows are is known from the start.
template <class Operand, u32 Rows>
struct Loader {
    using Entry = typename Operand::Entry;
    using Tile = OperandTile<Entry, Operand::along_k, Rows>;
    static constexpr bool along_k = Operand::along_k;
    static constexpr u32 threads_of_line =
        along_k ? chunks_of_stage : threads / depth_of_stage<Entry>;
    static constexpr u32 passes = Rows * chunks_of_stage / threads;
    static constexpr u32 lines_of_pass = threads / threads_of_line;
    // From what a pass copies to what the next but one does; the swizzle turns both the same way.
    static constexpr u32 apart = along_k ? 2 * lines_of_pass * depth_of_stage<Entry>
                                         : 2 * threads_of_line * entries_of_chunk<Entry>;

    Global<const Entry> data;
    Image image;
    u32 offset[passes];
    i32 y[passes], x[passes];
    u32 to[2];  // of every other pass, where in the tile
    typename Operand::Walk terms;

    DEVICE Loader(const Operand& operand, u32 row0, u32 k0)
        : data(operand.data), image(operand.image), terms(operand.terms) {
        constexpr u32 entries = entries_of_chunk<Entry>;
        terms.seek(k0 + (along_k ? chunk(0) * entries : line(0)));
#pragma unroll
        for (u32 pass = 0; pass < passes; ++pass) {
            const Place row = operand.row(row0 + (along_k ? line(pass) : chunk(pass) * entries));
            offset[pass] = static_cast<u32>(row.offset);
            y[pass] = row.y;
            x[pass] = row.x;
        }
#pragma unroll
        for (u32 pass = 0; pass < 2; ++pass) {
            to[pass] = kept(Tile::Lines::first(line(pass), chunk(pass)));
        }
    }

    static DEVICE u32 chunk(u32 pass) {
        return threadIdx.x % threads_of_line + (along_k ? 0 : pass * threads_of_line);
    }
    static DEVICE u32 line(u32 pass) {
        return threadIdx.x / threads_of_line + (along_k ? pass * lines_of_pass : 0);
    }

    // The next stage.
    DEVICE void copy(Tile& tile) {
        const Place term = terms.place();
        // Of 32 bits: an entry has a number below 2^32 (tensor_cores.py sees to it), what is added
        // up to it may wrap around on the way, and what is nowhere is not read.
        const u32 term_offset = kept(static_cast<u32>(term.offset));
#pragma unroll
        for (u32 pass = 0; pass < passes; ++pass) {
            copy_async<16>(&tile.lines.entries[to[pass % 2] + pass / 2 * apart],
                           data + (offset[pass] + term_offset),
                           image.contains({0, y[pass] + term.y, x[pass] + term.x}));
        }
        terms.advance(depth_of_stage<Entry>);
    }
};

// -- the product ----------------------------------------------------------------------------------

template <class A, class B>
struct alignas(16) Stage {
    A a;
    B b;
};

template <class A, class B>
struct alignas(128) Stages {
    Stage<A, B> stage[stages];
};

// Where in c a block begins, if blocks next to each other have the same rows.
struct Corner {
    u32 row, column;

    DEVICE explicit Corner(u32 columns) {
        const u32 across = (columns + tile_columns - 1) / tile_columns;
        row = blockIdx.x / across * tile_rows;
        column = blockIdx.x % across * tile_columns;
    }
    // Where a warp's part of it begins.
    static DEVICE u32 warp_row() { return threadIdx.x / 32 / 2 * warp_rows; }
    static DEVICE u32 warp_column() { return threadIdx.x / 32 % 2 * warp_columns; }
};

// This thread's sums: four entries (see mma.cuh) of each product of 16x8 in its warp's part.
using Sums = float[warp_rows / 16][warp_columns / 8][4];

struct Unwatched {
    template <class Tile>
    DEVICE void operator()(Tile&) const {}
};

// Adds the terms from k0 to before k1 to `sum`. Terms of the last stage beyond k1 have to be
// nowhere. `watch` is called with every tile of a.
template <class Precision, class A, class B, class Watch = Unwatched>
DEVICE void product(const A& a, const B& b, const Corner& corner, u32 k0, u32 k1, Sums& sum,
                    Watch watch = {}) {
    using OfA = Loader<A, tile_rows>;
    using OfB = Loader<B, tile_columns>;
    using Pipeline = Stages<typename OfA::Tile, typename OfB::Tile>;
    using Rows = typename Precision::Rows;
    constexpr u32 depth = depth_of_stage<typename Precision::Entry>;
    SHARED(Pipeline, shared);
    OfA of_a(a, corner.row, k0);
    OfB of_b(b, corner.column, k0);
    const u32 steps = kept((k1 - k0 + depth - 1) / depth);
    const Places<typename OfA::Tile> from_a(Precision::order(Side::a), Corner::warp_row());
    const Places<typename OfB::Tile> from_b(Precision::order(Side::b), Corner::warp_column());
    u32 refilled = 0, used = 0;
    const auto next = [](u32 stage) { return stage + 1 == stages ? 0 : stage + 1; };
    // Beyond the last step there is nothing to copy, but a group is counted all the same.
    const auto prefetch = [&](u32 step) {
        if (step < steps) {
            auto& stage = shared.stage[refilled];
            of_a.copy(stage.a);
            of_b.copy(stage.b);
        }
        commit_copies();
        refilled = next(refilled);
    };
    for (u32 step = 0; step + 1 < stages; ++step) prefetch(step);
    for (u32 step = 0; step < steps; ++step) {
        wait_for_copies<stages - 2>();  // this step's own copies have arrived
        __syncthreads();                // everybody's have, and nobody reads the stage before
        prefetch(step + stages - 1);    // which is the one that is refilled here
        auto& stage = shared.stage[used];
#pragma unroll
        for (u32 chunk = 0; chunk < chunks_of_stage; chunk += Precision::chunks_of_step) {
            Rows columns[warp_columns / 16];
#pragma unroll
            for (u32 j = 0; j < warp_columns / 16; ++j) {
                Precision::load(Side::b, columns[j], stage.b, from_b, j, chunk);
            }
#pragma unroll
            for (u32 i = 0; i < warp_rows / 16; ++i) {
                Rows rows;
                Precision::load(Side::a, rows, stage.a, from_a, i, chunk);
                Precision::multiply(sum[i], rows, columns);
            }
        }
        watch(stage.a);
        used = next(used);
    }
}
