// Every operation of the cpu backend, and the table through which one instruction set is chosen.
//
// All kernels are compiled several times, once an instruction set, each time in a namespace named
// by FERCORE_LEVEL; pointers are to checked, contiguous arrays (NHWC) and may be null where the
// Python interface says None. Work is divided in blocks that depend on shapes only, so results do
// not depend on the number of threads.
#pragma once

#include <cstdint>

#include "runtime.hpp"

#ifndef FERCORE_LEVEL
#define FERCORE_LEVEL portable
#endif

namespace fercore {

enum class Epilogue { none, relu, relu_pool };

// How convolutions are computed: as measurements say, or always directly, or by Winograd's
// algorithm wherever it applies.
enum class Algorithm { automatic, direct, winograd };

struct Conv2d {
    Index n, h, w, c;  // x
    Index o, kh, kw;   // weight [o, kh, kw, c]
    Index p, q;        // the map before the epilogue [n, p, q, o]
    Index stride, padding;
};

struct Pool2d {
    Index n, h, w, c;  // x
    Index p, q;        // out [n, p, q, c]
    Index window, stride;
};

// The epilogue that made an input `out`, when the gradient is to be that before it: ReLU (argmax is
// null), or with a 2x2 max-pool of the map [height, width]. Null out: none.
struct Below {
    const float* out;
    const std::uint8_t* argmax;
    Index height, width;
};

struct Random {
    std::uint32_t seed, run, epoch, step;
};

struct Augmentation {
    double flip, shift, rotation, scale;  // rotation in degrees
    Index cutout;
    double mean, std;
};

// What rows are: the label of each, or its shares of all classes; below 0 in padding rows.
struct Labels {
    const std::int32_t* of;  // null if there are shares
    const float* shares;
    bool multi_target;  // any class with a share is right
};

// Entry i of a parameter may change if data is null or data[i / span] is not 0.
struct Mask {
    const std::uint8_t* data;
    Index span;
};

struct Gradient {
    const float* data;
    Index size;
    Mask mask;
};

struct Rates {
    double rate, correction1, correction2, clip;
};

struct Sgd {
    double momentum, weight_decay;
    bool nesterov;
};

struct Adam {
    double beta1, beta2, epsilon, weight_decay;
    bool decoupled;
};

namespace FERCORE_LEVEL {

void accumulate(Index size, float* total, const float* term);

void conv2d_forward(const Conv2d& shape, const float* x, const float* weight, const float* bias,
                    Epilogue epilogue, Algorithm algorithm, float* out, std::uint8_t* argmax);
void conv2d_input_gradient(const Conv2d& shape, const float* grad, const float* weight,
                           Algorithm algorithm, const Below& below, float* grad_x);
void conv2d_weight_gradient(const Conv2d& shape, const float* x, const float* grad,
                            Algorithm algorithm, float* grad_weight, float* grad_bias);

void linear_forward(Index n, Index in, Index out, const float* x, const float* weight,
                    const float* bias, Epilogue epilogue, float* y);
void linear_input_gradient(Index n, Index in, Index out, const float* grad, const float* weight,
                           const Below& below, float* grad_x);
void linear_weight_gradient(Index n, Index in, Index out, const float* x, const float* grad,
                            float* grad_weight);
void column_sums(Index rows, Index columns, const float* x, float* sums);

void relu_gradient(Index size, const float* grad, const float* out, float* grad_before);
void relu_pool_gradient(const Pool2d& shape, const float* grad, const float* out,
                        const std::uint8_t* argmax, float* grad_before);
void max_pool_forward(const Pool2d& shape, const float* x, float* out, std::uint8_t* argmax);
void max_pool_backward(const Pool2d& shape, const float* grad, const std::uint8_t* argmax,
                       float* grad_x);

void dropout(Index size, const float* x, const Random& random, double rate, std::uint32_t layer,
             float* out);

void batch_norm_forward(Index rows, Index channels, const float* x, const float* weight,
                        const float* bias, float* running_mean, float* running_variance,
                        const std::uint8_t* moving, double momentum, double epsilon,
                        Epilogue epilogue, float* out, float* mean, float* inverse_std);
void batch_norm_backward(Index rows, Index channels, const float* x, const float* grad,
                         const float* weight, const float* mean, const float* inverse_std,
                         const std::uint8_t* moving, float* grad_x, float* grad_weight,
                         float* grad_bias);

void augment(Index n, Index height, Index width, const std::uint8_t* images,
             const std::int32_t* indices, const Random& random, const Augmentation& how, float* x);

void softmax_cross_entropy(Index n, Index classes, const float* logits, const Labels& labels,
                           const float* class_weights, double label_smoothing, double* statistics,
                           float* grad_logits);

double gradient_norm(const Gradient* gradients, Index count);
void sgd_update(Index size, float* parameter, const float* gradient, float* velocity,
                const Mask& mask, const Rates& rates, const Sgd& sgd);
void adam_update(Index size, float* parameter, const float* gradient, float* first, float* second,
                 const Mask& mask, const Rates& rates, const Adam& adam);

}  // namespace FERCORE_LEVEL

// clang-format off
#define FERCORE_KERNELS(X) \
    X(accumulate) \
    X(conv2d_forward) \
    X(conv2d_input_gradient) \
    X(conv2d_weight_gradient) \
    X(linear_forward) \
    X(linear_input_gradient) \
    X(linear_weight_gradient) \
    X(column_sums) \
    X(relu_gradient) \
    X(relu_pool_gradient) \
    X(max_pool_forward) \
    X(max_pool_backward) \
    X(dropout) \
    X(batch_norm_forward) \
    X(batch_norm_backward) \
    X(augment) \
    X(softmax_cross_entropy) \
    X(gradient_norm) \
    X(sgd_update) \
    X(adam_update)
// clang-format on

// The kernels of one instruction set.
struct Table {
#define FERCORE_MEMBER(name) decltype(&FERCORE_LEVEL::name) name;
    FERCORE_KERNELS(FERCORE_MEMBER)
#undef FERCORE_MEMBER
};

namespace portable {
extern const Table table;
}
namespace x86_64_v3 {
extern const Table table;
}
namespace x86_64_v4 {
extern const Table table;
}

}  // namespace fercore
