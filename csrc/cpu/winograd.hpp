// Winograd's convolution F(M x M, 3 x 3): a tile of M x M outputs costs (M + 2)^2 products instead
// of 9 M^2.
//
//     input patch  (M + 2) x (M + 2)  --B-->  V ---.
//                                                  (x)  sums over channels  --A^T-->  M x M outputs
//     kernel             3 x 3        --G-->  U ---'
//
// A kernel and an output tile are polynomials, known by their values at M + 1 points and at
// infinity; rows of B, G and A belong to points. Points come in pairs +p, -p (and 0, if their
// number is odd), whose rows differ in the sign of the odd columns only: a pair costs little more
// than one. The weight gradient is the same computation transposed: G^T [sum over tiles of V (x) A
// grad A^T] G.
//
// Part of the kernels: compiled per level.
#pragma once

#include <utility>

#include "product.hpp"

namespace fercore::FERCORE_LEVEL {

// The points with the smallest errors among multiples of 1/16, measured against float64.
template <int M>
struct Points;

template <>
struct Points<4> {
    static constexpr int zeros = 1, pairs = 2;
    static constexpr double positive[] = {0.625, 1.5};
};

template <>
struct Points<3> {
    static constexpr int zeros = 0, pairs = 2;
    static constexpr double positive[] = {0.375, 1.25};
};

// Rows are points: 0 if it is one, +p, -p, ..., infinity.
template <int Rows, int Columns>
struct Coefficients {
    double at[Rows][Columns] = {};
};

template <int M>
struct Winograd {
    static constexpr int size = M + 2;
    static constexpr int products = size * size;  // of a tile and a pair of channels
    static constexpr int zeros = Points<M>::zeros, pairs = Points<M>::pairs;

    static constexpr bool is_negative(int row) { return row >= zeros && (row - zeros) % 2 == 1; }

    static constexpr double point(int row) {
        if (row < zeros) return 0;
        const double p = Points<M>::positive[(row - zeros) / 2];
        return is_negative(row) ? -p : p;
    }

    // The product of (x - p) over all finite points but that of row `left_out`.
    static constexpr Coefficients<1, size> polynomial(int left_out) {
        Coefficients<1, size> result;
        result.at[0][0] = 1;
        for (int row = 0; row + 1 < size; ++row) {
            if (row == left_out) continue;
            for (int k = size - 1; k >= 0; --k) {
                const double shifted = k > 0 ? result.at[0][k - 1] : 0;
                result.at[0][k] = shifted - point(row) * result.at[0][k];
            }
        }
        return result;
    }

    // Values of polynomials of `Columns` coefficients, scaled: row -p repeats row p's scale.
    template <int Columns>
    static constexpr Coefficients<size, Columns> values(bool normalised) {
        Coefficients<size, Columns> result;
        for (int row = 0; row + 1 < size; ++row) {
            const int positive = is_negative(row) ? row - 1 : row;
            double scale = 0, power = 1;
            for (int k = 0; k < size; ++k, power *= point(positive)) {
                scale += polynomial(positive).at[0][k] * power;
            }
            power = 1;
            for (int k = 0; k < Columns; ++k, power *= point(row)) {
                result.at[row][k] = normalised ? power / scale : power;
            }
        }
        result.at[size - 1][Columns - 1] = 1;
        return result;
    }

    static constexpr Coefficients<size, size> interpolation() {
        Coefficients<size, size> result;
        for (int row = 0; row < size; ++row) {
            const int positive = is_negative(row) ? row - 1 : row;
            for (int k = 0; k < size; ++k) {
                const double entry = polynomial(positive).at[0][k];
                result.at[row][k] = is_negative(row) && k % 2 == 1 ? -entry : entry;
            }
        }
        return result;
    }

    struct Input {  // B
        static constexpr int columns = size;
        static constexpr auto matrix = interpolation();
    };
    struct Output {  // A
        static constexpr int columns = M;
        static constexpr auto matrix = values<M>(false);
    };
    struct Kernel {  // G
        static constexpr int columns = 3;
        static constexpr auto matrix = values<3>(true);
    };
};

// body(0), ..., body(Count - 1), each with its number as a constant.
template <int Count, class Body>
inline void unroll(const Body& body) {
    [&]<int... I>(std::integer_sequence<int, I...>) {
        (body(std::integral_constant<int, I>{}), ...);
    }(std::make_integer_sequence<int, Count>{});
}

// sum + C * x, where a C of 0 or 1 costs nothing.
template <class T, int Row, int Column>
inline Vector add_scaled(Vector sum, Vector x) {
    constexpr double factor = T::matrix.at[Row][Column];
    if constexpr (factor == 0) return sum;
    if constexpr (factor == 1) return sum + x;
    return sum + static_cast<float>(factor) * x;
}

// y = T x, along one axis.
template <class W, class T>
inline void spread(const Vector (&x)[T::columns], Vector (&y)[W::size]) {
    const auto row_alone = [&](auto row) {
        Vector sum = {};
        unroll<T::columns>([&](auto k) { sum = add_scaled<T, row, k>(sum, x[k]); });
        y[row] = sum;
    };
    unroll<W::zeros>(row_alone);
    unroll<W::pairs>([&](auto pair) {
        constexpr int row = W::zeros + 2 * pair;
        Vector even = {}, odd = {};
        unroll<(T::columns + 1) / 2>(
            [&](auto k) { even = add_scaled<T, row, 2 * k>(even, x[2 * k]); });
        unroll<T::columns / 2>(
            [&](auto k) { odd = add_scaled<T, row, 2 * k + 1>(odd, x[2 * k + 1]); });
        y[row] = even + odd;
        y[row + 1] = even - odd;
    });
    row_alone(std::integral_constant<int, W::size - 1>{});
}

// y = T^t x, along one axis.
template <class W, class T>
inline void gather(const Vector (&x)[W::size], Vector (&y)[T::columns]) {
    Vector sum[W::pairs], difference[W::pairs];
    unroll<W::pairs>([&](auto pair) {
        constexpr int row = W::zeros + 2 * pair;
        sum[pair] = x[row] + x[row + 1];
        difference[pair] = x[row] - x[row + 1];
    });
    unroll<T::columns>([&](auto k) {
        Vector total = {};
        unroll<W::zeros>([&](auto row) { total = add_scaled<T, row, k>(total, x[row]); });
        unroll<W::pairs>([&](auto pair) {
            total = add_scaled<T, W::zeros + 2 * pair, k>(
                total, k % 2 == 0 ? sum[pair] : difference[pair]);
        });
        y[k] = add_scaled<T, W::size - 1, k>(total, x[W::size - 1]);
    });
}

inline const Vector& vector_at(const float* data) { return *reinterpret_cast<const Vector*>(data); }
inline Vector& vector_at(float* data) { return *reinterpret_cast<Vector*>(data); }

// A square of vectors: entry (i, j) lies at data + i * line + j * entry.
template <class Float>
struct Square {
    Float* data;
    Index line, entry;

    Vector operator()(Index i, Index j) const { return vector_at(data + i * line + j * entry); }
    void set(Index i, Index j, Vector value) const {
        vector_at(data + i * line + j * entry) = value;
    }
};

// Floats between products: an odd number of cache lines, so that the products of a tile do not
// compete for the same lines of the L1 cache.
inline Index product_pitch(Index floats) { return round_up(floats, 32) + 16; }

// y [size, size] = T x T^t, where x(i, j), of [columns, columns], gives a vector.
template <class W, class T, class Entries>
inline void spread(const Entries& x, const Square<float>& y) {
    Vector half[W::size][T::columns];
    for (int j = 0; j < T::columns; ++j) {
        Vector column[T::columns], spread_column[W::size];
        for (int i = 0; i < T::columns; ++i) column[i] = x(i, j);
        spread<W, T>(column, spread_column);
        for (int i = 0; i < W::size; ++i) half[i][j] = spread_column[i];
    }
    for (int i = 0; i < W::size; ++i) {
        Vector row[W::size];
        spread<W, T>(half[i], row);
        for (int j = 0; j < W::size; ++j) y.set(i, j, row[j]);
    }
}

// y [columns, columns] = T^t x T, for x [size, size].
template <class W, class T>
inline void gather(const Square<const float>& x, const Square<float>& y) {
    Vector half[T::columns][W::size];
    for (int j = 0; j < W::size; ++j) {
        Vector column[W::size], gathered[T::columns];
        for (int i = 0; i < W::size; ++i) column[i] = x(i, j);
        gather<W, T>(column, gathered);
        for (int i = 0; i < T::columns; ++i) half[i][j] = gathered[i];
    }
    for (int i = 0; i < T::columns; ++i) {
        Vector row[T::columns];
        gather<W, T>(half[i], row);
        for (int j = 0; j < T::columns; ++j) y.set(i, j, row[j]);
    }
}

}  // namespace fercore::FERCORE_LEVEL
