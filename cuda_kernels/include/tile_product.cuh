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
// A stage is, to a warp, 16 ldmatrix for 64 mma in bf16; the same in tf32, for half as many terms
// (where floats lie along rows, four loads stand for each ldmatrix); in bf16x3 96 mma for those.
// mma.sync reaches about 63 % of a Hopper's peak; the rest needs wgmma.
#pragma once

#include "async_copy.cuh"
#include "fragments.cuh"
#include "place.cuh"

constexpr u32 threads = 128, stages = 3, warp_edge = 64;

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

// A thread's share of an operand's tiles, stage after stage: of each pass one chunk. Neighbouring
// threads copy neighbouring chunks. What stays the same is kept: along k the places of the thread's
// rows, along rows that of its only chunk of rows.
template <class Operand>
struct Loader {
    using Entry = typename Operand::Entry;
    using Tile = OperandTile<Entry, Operand::along_k>;
    static constexpr bool along_k = Operand::along_k;
    static constexpr u32 chunks =
        along_k ? chunks_of_stage : rows_of_tile / entries_of_chunk<Entry>;
    static constexpr u32 lines_of_pass = threads / chunks;
    static constexpr u32 passes = rows_of_tile * chunks_of_stage / threads;

    Global<const Entry> data;
    Image image;
    Place rows[along_k ? passes : 1];
    typename Operand::Walk terms;

    DEVICE Loader(const Operand& operand, u32 row0, u32 k0)
        : data(operand.data), image(operand.image), terms(operand.terms) {
        const u32 begin = chunk() * entries_of_chunk<Entry>;
        terms.seek(k0 + (along_k ? begin : line_of(0)));
#pragma unroll
        for (u32 pass = 0; pass < (along_k ? passes : 1); ++pass) {
            rows[pass] = operand.row(row0 + (along_k ? line_of(pass) : begin));
        }
    }

    static DEVICE u32 chunk() { return threadIdx.x % chunks; }
    static DEVICE u32 line_of(u32 pass) { return pass * lines_of_pass + threadIdx.x / chunks; }

    // The next stage.
    DEVICE void copy(Tile& tile) {
#pragma unroll
        for (u32 pass = 0; pass < passes; ++pass) {
            const Place at = rows[along_k ? pass : 0] + terms.place();
            copy_async<16>(tile.lines.chunk(line_of(pass), chunk()), data + at.offset,
                           image.contains(at));
            if (!along_k) terms.advance(lines_of_pass);
        }
        if (along_k) terms.advance(depth_of_stage<Entry>);
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
        const u32 across = (columns + rows_of_tile - 1) / rows_of_tile;
        row = blockIdx.x / across * rows_of_tile;
        column = blockIdx.x % across * rows_of_tile;
    }
    // Where a warp's part of it begins.
    static DEVICE u32 warp_row() { return threadIdx.x / 32 / 2 * warp_edge; }
    static DEVICE u32 warp_column() { return threadIdx.x / 32 % 2 * warp_edge; }
};

// This thread's sums: four entries (see mma.cuh) of 4x8 products.
using Sums = float[4][8][4];

// Adds the terms from k0 to before k1 to `sum`. Terms of the last stage beyond k1 have to be
// nowhere.
template <class Precision, class A, class B>
DEVICE void product(const A& a, const B& b, const Corner& corner, u32 k0, u32 k1, Sums& sum) {
    using Pipeline = Stages<typename Loader<A>::Tile, typename Loader<B>::Tile>;
    using Rows = typename Precision::Rows;
    constexpr u32 depth = depth_of_stage<typename Precision::Entry>;
    SHARED(Pipeline, shared);
    Loader<A> of_a(a, corner.row, k0);
    Loader<B> of_b(b, corner.column, k0);
    const u32 steps = (k1 - k0 + depth - 1) / depth;
    // Beyond the last step there is nothing to copy, but a group is counted all the same.
    const auto prefetch = [&](u32 step) {
        if (step < steps) {
            auto& stage = shared.stage[step % stages];
            of_a.copy(stage.a);
            of_b.copy(stage.b);
        }
        commit_copies();
    };
    for (u32 step = 0; step + 1 < stages; ++step) prefetch(step);
    for (u32 step = 0; step < steps; ++step) {
        wait_for_copies<stages - 2>();  // this step's own copies have arrived
        __syncthreads();                // everybody's have, and nobody reads the stage before
        prefetch(step + stages - 1);    // which is the one that is refilled here
        auto& stage = shared.stage[step % stages];
#pragma unroll
        for (u32 chunk = 0; chunk < chunks_of_stage; chunk += Precision::chunks_of_step) {
            Rows columns[4];
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
                Precision::load(Side::b, columns[j], stage.b, Corner::warp_column() + 16 * j,
                                chunk);
            }
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                Rows rows;
                Precision::load(Side::a, rows, stage.a, Corner::warp_row() + 16 * i, chunk);
                Precision::multiply(sum[i], rows, columns);
            }
        }
    }
}
