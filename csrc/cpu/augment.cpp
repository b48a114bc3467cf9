// Training images varied by random geometry, as the interface's docstring defines it.

#include <cmath>
#include <cstring>
#include <numbers>

#include "kernels.hpp"
#include "philox.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

// What one image drew.
struct Draw {
    bool mirrored;
    double dx, dy, cosine, sine, zoom;
    Index left, top;  // of the cutout
};

Draw draw(std::uint32_t index, const Random& random, const Augmentation& how, Index height,
          Index width) {
    std::uint32_t words[4][2] = {{index, index},
                                 {random.epoch, random.epoch},
                                 {0, 1},
                                 {augmentation_stream, augmentation_stream}};
    philox(words, random.seed, random.run);
    const auto word = [&](int i) { return words[i % 4][i / 4]; };
    const auto symmetric = [&](int i) { return 2 * uniform(word(i)) - 1; };
    const auto below = [&](int i, Index limit) {
        return static_cast<Index>((std::uint64_t{word(i)} * static_cast<std::uint64_t>(limit)) >>
                                  32);
    };
    const double angle = how.rotation * symmetric(3) * std::numbers::pi / 180;
    return {uniform(word(0)) < how.flip,
            how.shift * symmetric(1),
            how.shift * symmetric(2),
            std::cos(angle),
            std::sin(angle),
            1 + how.scale * symmetric(4),
            below(5, width - how.cutout + 1),
            below(6, height - how.cutout + 1)};
}

// A coordinate as two neighbouring pixels and the second one's share; border pixels are repeated.
struct Between {
    Index first, second;
    double share;
};

Between locate(double at, Index size) {
    const double last = static_cast<double>(size - 1);
    const double inside = at > 0 ? (at < last ? at : last) : 0;
    const Index first = static_cast<Index>(inside);
    return {first, smaller(first + 1, size - 1), inside - static_cast<double>(first)};
}

void warp(const std::uint8_t* image, Index height, Index width, const Draw& d,
          const Augmentation& how, float* x) {
    const double middle_x = static_cast<double>(width - 1) / 2;
    const double middle_y = static_cast<double>(height - 1) / 2;
    for (Index i = 0; i < height; ++i) {
        const double q = static_cast<double>(i) - middle_y - d.dy;
        for (Index j = 0; j < width; ++j) {
            const double p = static_cast<double>(j) - middle_x - d.dx;
            const double across = (d.cosine * p + d.sine * q) / d.zoom + middle_x;
            const double down = (-d.sine * p + d.cosine * q) / d.zoom + middle_y;
            const Between u =
                locate(d.mirrored ? static_cast<double>(width - 1) - across : across, width);
            const Between v = locate(down, height);
            const std::uint8_t *above = image + v.first * width, *below = image + v.second * width;
            const double first = above[u.first] + u.share * (above[u.second] - above[u.first]);
            const double second = below[u.first] + u.share * (below[u.second] - below[u.first]);
            const double gray = first + v.share * (second - first);
            x[i * width + j] = static_cast<float>((gray / 255 - how.mean) / how.std);
        }
    }
}

void cut_out(const Draw& d, const Augmentation& how, Index width, float* x) {
    for (Index i = 0; i < how.cutout; ++i) {
        std::memset(x + (d.top + i) * width + d.left, 0, how.cutout * sizeof(float));
    }
}

// Every gray normalised, for images that are not warped: the same bits as warp would give.
struct Grays {
    float of[256];

    explicit Grays(const Augmentation& how) {
        for (int gray = 0; gray < 256; ++gray) {
            of[gray] = static_cast<float>((gray / 255.0 - how.mean) / how.std);
        }
    }
};

void normalise(const std::uint8_t* image, Index height, Index width, bool mirrored,
               const Grays& grays, float* x) {
    for (Index i = 0; i < height; ++i, image += width, x += width) {
        for (Index j = 0; j < width; ++j) x[j] = grays.of[image[mirrored ? width - 1 - j : j]];
    }
}

}  // namespace

void augment(Index n, Index height, Index width, const std::uint8_t* images,
             const std::int32_t* indices, const Random& random, const Augmentation& how, float* x) {
    const Index pixels = height * width;
    const bool warps = how.shift != 0 || how.rotation != 0 || how.scale != 0;
    const Grays grays(how);
    for_blocks(n, 1, [&](Index i, Index) {
        const std::int32_t index = indices[i];
        if (index < 0) {
            std::memset(x + i * pixels, 0, pixels * sizeof(float));
            return;
        }
        const Draw drawn = draw(static_cast<std::uint32_t>(index), random, how, height, width);
        const std::uint8_t* image = images + index * pixels;
        if (warps) {
            warp(image, height, width, drawn, how, x + i * pixels);
        } else {
            normalise(image, height, width, drawn.mirrored, grays, x + i * pixels);
        }
        cut_out(drawn, how, width, x + i * pixels);
    });
}

}  // namespace fercore::FERCORE_LEVEL
