// Matrix products of any size, in the calling thread.
#pragma once

#include "parallel.hpp"

namespace fercore::FERCORE_LEVEL {

// A row-major matrix as it lies in memory, or its transpose.
struct Matrix {
    const float* data;
    Index pitch;  // floats from one row in memory to the next
    bool transposed;
};

// c [m, n] = a [m, k] @ b [k, n]; c is wholly overwritten, whatever it held.
void gemm(Index m, Index n, Index k, const Matrix& a, const Matrix& b, float* c, Index pitch);

}  // namespace fercore::FERCORE_LEVEL
