// The one place where it is decided how a convolution is computed, from its shape alone. The batch
// is left out on purpose: an image gets the same bits in any. (From four images on Winograd's
// algorithm wins wherever it is chosen, on maps of 6 x 6 too, where it loses up to a quarter of the
// time of one image.)
// Part of the kernels: compiled per level.
#pragma once

#include "kernels.hpp"
#include "product.hpp"

namespace fercore::FERCORE_LEVEL {

// Side of the Winograd tiles that cover a map with the fewest products.
inline int best_tile_side(Index rows, Index columns) {
    const auto products = [&](Index side) {
        return ceil_div(rows, side) * ceil_div(columns, side) * (side + 2) * (side + 2);
    };
    return products(3) < products(4) ? 3 : 4;
}

inline bool is_winograd(Algorithm algorithm, const Conv2d& s, bool is_faster) {
    if (s.kh != 3 || s.kw != 3 || s.stride != 1) return false;
    return algorithm == Algorithm::winograd || (algorithm == Algorithm::automatic && is_faster);
}

// Side of the Winograd tiles for a map [rows, columns] made from `in` channels, or 0: directly.
// Transforming tiles pays off with 8 channels or more (1.3 times the direct speed; with 4, 0.9).
inline int map_tile_side(Algorithm algorithm, const Conv2d& s, Index rows, Index columns,
                         Index in) {
    return is_winograd(algorithm, s, in >= 8) ? best_tile_side(rows, columns) : 0;
}

// Whether outputs can be the vectors of a weight gradient whose patches are too narrow: 3 times the
// direct speed.
inline bool is_thin(const Conv2d& s) {
    return s.c == 1 && (s.kw == 2 || s.kw == 3) && s.o % lanes == 0;
}

// The same as map_tile_side for the weight gradient: 1.0 to 2.9 times the direct speed but on maps
// of one pixel.
inline int weight_gradient_tile_side(Algorithm algorithm, const Conv2d& s) {
    const bool is_faster = s.p * s.q >= 4 && s.o >= 8 && !is_thin(s);
    return is_winograd(algorithm, s, is_faster) ? best_tile_side(s.p, s.q) : 0;
}

}  // namespace fercore::FERCORE_LEVEL
