// A convolution seen as maps made from a padded source by panels of weights: what the forward pass
// and the input gradient have in common, whichever algorithm computes them.
// Part of the kernels: compiled per level.
#pragma once

#include "kernels.hpp"
#include "product.hpp"
#include "strips.hpp"

namespace fercore::FERCORE_LEVEL {

// The weights [out, height, width, in] of a layer, or their transpose: flipped, with inputs and
// outputs exchanged.
struct Weights {
    const float* data;
    Index height, width;
    Index in, out;  // channels of source and map
    bool transposed;

    Index entries() const { return height * width; }
    Index depth() const { return entries() * in; }
};

// Where maps [images, height, width, channels] go: bias (null: none) and epilogue on the way; a
// gradient back through the epilogue below.
struct Destination {
    Index height, width, channels;
    const float* bias;
    Epilogue epilogue;
    float* out;
    std::uint8_t* argmax;
    Below below;
};

struct Correlation {
    Source source;
    Index images, stride;
    Weights weights;
    Destination to;

    Index run() const { return weights.width * source.channels; }  // floats of a kernel row
    // Of padded input: the pixels of a row, its floats, and the rows below `out_rows` rows.
    Index width() const { return (to.width - 1) * stride + weights.width; }
    Index line() const { return width() * source.channels; }
    Index in_rows(Index out_rows) const { return (out_rows - 1) * stride + weights.height; }
    // Rows of the map that count: windows of pooling are whole.
    bool pooled() const { return to.epilogue == Epilogue::relu_pool; }
    Index rows() const { return pooled() ? to.height / 2 * 2 : to.height; }
};

// Part of a map: rows `row` .. `row + rows` of an image, `channels` channels from `channel` on.
// Pixel (r, column) starts at data + (r * row_pitch + column * pixel_pitch).
struct Part {
    Index image, row, rows, channel, channels;
    const float* data;
    Index row_pitch, pixel_pitch;
};

// Adds the bias to a part and writes it through the epilogue; under relu_pool its rows are even.
void finish(const Destination& to, const Part& part);

// All weights, [panel][height][width][in][columns], zeros past the last channel: in Slot::panels.
const float* pack(const Weights& weights, Index columns);

// The sums over kernel rows, one after another.
void correlate_direct(const Correlation& c);

// The same by Winograd's algorithm with tiles of `tile` x `tile`: 3 x 3 kernels, stride 1.
void correlate_winograd(const Correlation& c, int tile);

}  // namespace fercore::FERCORE_LEVEL
