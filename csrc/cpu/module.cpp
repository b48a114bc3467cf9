// The Python module _fercore_cpu: checks what Python gives it and calls the kernels of the best
// instruction set, without the interpreter's lock. Arguments are those of the methods in
// fercore/backends/interface.py, in the same order.

#include <pybind11/stl.h>

#include <cstdlib>
#include <vector>

#include "arrays.hpp"
#include "kernels.hpp"

#ifdef FERCORE_OPENBLAS
#define BLAS_SYMBOL_PREFIX scipy_
#include <cblas.h>
#endif

namespace fercore {
namespace {

using Array = const py::array&;
using Maybe = const std::optional<py::array>&;
using std::int32_t, std::uint32_t, std::uint8_t;

struct Level {
    const char* name;
    const Table* table;
    bool supported;
};

// FERCORE_INSTRUCTIONS, else the best that this processor has.
Level choose_level() {
    const Level levels[] = {
#ifdef FERCORE_X86_64
        {"x86-64-v4", &x86_64_v4::table, __builtin_cpu_supports("x86-64-v4") != 0},
        {"x86-64-v3", &x86_64_v3::table, __builtin_cpu_supports("x86-64-v3") != 0},
#endif
        {"portable", &portable::table, true},
    };
    const char* text = std::getenv("FERCORE_INSTRUCTIONS");
    const std::string wanted = text == nullptr ? "" : text;
    for (const Level& level : levels) {
        if (level.supported && (wanted.empty() || wanted == level.name)) return level;
    }
    throw py::value_error("FERCORE_INSTRUCTIONS is \"" + wanted +
                          "\", which this build or this processor does not have");
}

const Level& level() {
    static const Level chosen = choose_level();
    return chosen;
}

// Calls a kernel of the table without the interpreter's lock.
template <class Kernel, class... Arguments>
auto run(Kernel Table::* kernel, const Arguments&... arguments) {
    const py::gil_scoped_release unlocked;
    return (level().table->*kernel)(arguments...);
}

// -- arguments ----------------------------------------------------------------------------------

Epilogue to_epilogue(const std::string& name, bool may_pool) {
    if (name == "none") return Epilogue::none;
    if (name == "relu") return Epilogue::relu;
    if (name == "relu_pool" && may_pool) return Epilogue::relu_pool;
    refuse("epilogue",
           "must be none, relu" + std::string(may_pool ? " or relu_pool" : "") + ", not " + name);
}

Algorithm to_algorithm(const std::string& name) {
    if (name == "auto") return Algorithm::automatic;
    if (name == "direct") return Algorithm::direct;
    if (name == "winograd") return Algorithm::winograd;
    refuse("convolution", "must be auto, direct or winograd, not " + name);
}

Random to_random(Array rng) {
    const uint32_t* words = data<const uint32_t, 1>(rng, "rng", {4});
    return {words[0], words[1], words[2], words[3]};
}

// Writes into an array of the shape of another one.
template <class T>
T* like(Array array, const char* name, Array other) {
    if (!array.attr("shape").equal(other.attr("shape"))) {
        refuse(name, "must have shape " + to_text(other) + ", not " + to_text(array));
    }
    return data<T>(array, name);
}

template <class T>
T* like(Maybe array, const char* name, Array other) {
    return array ? like<T>(*array, name, other) : nullptr;
}

Mask to_mask(Maybe mask, Array parameter) {
    if (!mask) return {nullptr, 1};
    const auto* entries = data<const uint8_t>(*mask, "mask");
    if (mask->attr("shape").equal(parameter.attr("shape"))) return {entries, 1};
    if (parameter.ndim() < 1 || mask->ndim() != 1 || mask->size() != parameter.shape(0)) {
        refuse("mask", "must have the parameter's shape " + to_text(parameter) +
                           " or one entry an output channel, not shape " + to_text(*mask));
    }
    return {entries, parameter.size() / parameter.shape(0)};
}

Rates to_rates(Array rates) {
    const double* values = data<const double, 1>(rates, "rates", {4});
    return {values[0], values[1], values[2], values[3]};
}

void check_range(const int32_t* values, Index count, const char* name, Index limit) {
    for (Index i = 0; i < count; ++i) {
        if (values[i] < -1 || values[i] >= limit) {
            refuse(name, "must be from -1 to " + std::to_string(limit - 1) + ", but entry " +
                             std::to_string(i) + " is " + std::to_string(values[i]));
        }
    }
}

Conv2d to_conv2d(const std::array<Index, 4>& x, const std::array<Index, 4>& weight, Index stride,
                 Index padding) {
    if (stride < 1) refuse("stride", "must be at least 1");
    if (padding < 0) refuse("padding", "must not be negative");
    const auto [n, h, w, c] = x;
    const auto [o, kh, kw, weight_c] = weight;
    if (n < 1 || h < 1 || w < 1 || c < 1) refuse("x", "must not be empty");
    if (o < 1 || kh < 1 || kw < 1) refuse("weight", "must not be empty");
    if (weight_c != c) {
        refuse("weight", "must have as many channels as x, " + std::to_string(c) + ", not " +
                             std::to_string(weight_c));
    }
    if (h + 2 * padding < kh || w + 2 * padding < kw) {
        refuse("weight", "must not be larger than the padded x");
    }
    return {n,
            h,
            w,
            c,
            o,
            kh,
            kw,
            (h + 2 * padding - kh) / stride + 1,
            (w + 2 * padding - kw) / stride + 1,
            stride,
            padding};
}

Pool2d to_pool2d(const std::array<Index, 4>& x, Index window, Index stride) {
    if (window < 1 || window > 16) refuse("window", "must be from 1 to 16");
    if (stride < 1) refuse("stride", "must be at least 1");
    const auto [n, h, w, c] = x;
    if (h < window || w < window) refuse("x", "must not be smaller than the window");
    return {n, h, w, c, (h - window) / stride + 1, (w - window) / stride + 1, window, stride};
}

void accumulate(Array total, Array term) {
    run(&Table::accumulate, total.size(), data<float>(total, "total"),
        like<const float>(term, "term", total));
}

// -- convolution --------------------------------------------------------------------------------

void conv2d_forward(Array x, Array weight, Maybe bias, Array out, Maybe argmax, Index stride,
                    Index padding, const std::string& epilogue, const std::string& algorithm) {
    const Conv2d s = to_conv2d(shape_of<4>(x, "x"), shape_of<4>(weight, "weight"), stride, padding);
    const Epilogue how = to_epilogue(epilogue, true);
    const Index pool = how == Epilogue::relu_pool ? 2 : 1;
    const std::array<Index, 4> map = {s.n, s.p / pool, s.q / pool, s.o};
    run(&Table::conv2d_forward, s, data<const float>(x, "x"), data<const float>(weight, "weight"),
        data<const float, 1>(bias, "bias", {s.o}), how, to_algorithm(algorithm),
        data<float>(out, "out", map), pool == 2 ? data<uint8_t>(argmax, "argmax", map) : nullptr);
}

// For the gradient of an input that is `grad_x`, or `out` of the layer below.
Below to_below(Array grad_x, Maybe out, Maybe argmax) {
    if (!out) {
        if (argmax) refuse("out", "must not be None where argmax is given");
        return {};
    }
    const auto* made = data<const float>(*out, "out");
    if (!argmax) {
        like<float>(grad_x, "grad_x", *out);
        return {made, nullptr, 0, 0};
    }
    const auto [n, height, width, channels] = shape_of<4>(grad_x, "grad_x");
    if (height < 2 || width < 2) refuse("grad_x", "must not be smaller than the window");
    if (out->ndim() == 4) {
        data<const float, 4>(*out, "out", {n, height / 2, width / 2, channels});
    } else {
        data<const float, 2>(*out, "out", {n, height / 2 * (width / 2) * channels});
    }
    return {made, like<const uint8_t>(*argmax, "argmax", *out), height, width};
}

void conv2d_input_gradient(Array grad, Array weight, Array grad_x, Maybe out, Maybe argmax,
                           Index stride, Index padding, const std::string& algorithm) {
    const Below below = to_below(grad_x, out, argmax);
    const Conv2d s = to_conv2d(out ? shape_of<4>(*out, "out") : shape_of<4>(grad_x, "grad_x"),
                               shape_of<4>(weight, "weight"), stride, padding);
    run(&Table::conv2d_input_gradient, s, data<const float, 4>(grad, "grad", {s.n, s.p, s.q, s.o}),
        data<const float>(weight, "weight"), to_algorithm(algorithm), below,
        data<float>(grad_x, "grad_x"));
}

void conv2d_weight_gradient(Maybe x, Array grad, Maybe grad_weight, Maybe grad_bias, Index stride,
                            Index padding, const std::string& algorithm) {
    const auto [n, p, q, o] = shape_of<4>(grad, "grad");
    const auto* from = data<const float>(grad, "grad");
    float* sums = data<float, 1>(grad_bias, "grad_bias", {o});
    if (!grad_weight) {
        if (sums != nullptr) run(&Table::column_sums, n * p * q, o, from, sums);
        return;
    }
    if (!x) refuse("x", "must not be None where grad_weight is wanted");
    const Conv2d s =
        to_conv2d(shape_of<4>(*x, "x"), shape_of<4>(*grad_weight, "grad_weight"), stride, padding);
    data<const float, 4>(grad, "grad", {s.n, s.p, s.q, s.o});
    run(&Table::conv2d_weight_gradient, s, data<const float>(*x, "x"), from,
        to_algorithm(algorithm), data<float>(*grad_weight, "grad_weight"), sums);
}

void epilogue_gradient(Array grad, Array out, Maybe argmax, Array grad_before,
                       const std::string& epilogue) {
    const Epilogue how = to_epilogue(epilogue, true);
    const auto* from = like<const float>(grad, "grad", out);
    const auto* after = data<const float>(out, "out");
    if (how == Epilogue::relu) {
        run(&Table::relu_gradient, out.size(), from, after,
            like<float>(grad_before, "grad_before", out));
    } else if (how == Epilogue::relu_pool) {
        if (!argmax) refuse("argmax", "must not be None under relu_pool");
        const Pool2d s = to_pool2d(shape_of<4>(grad_before, "grad_before"), 2, 2);
        data<const float, 4>(out, "out", {s.n, s.p, s.q, s.c});
        run(&Table::relu_pool_gradient, s, from, after, like<const uint8_t>(*argmax, "argmax", out),
            data<float>(grad_before, "grad_before"));
    } else {
        refuse("epilogue", "must be relu or relu_pool, not none");
    }
}

// -- fully connected ----------------------------------------------------------------------------

struct Sizes {
    Index n, in, out;
};

Sizes linear_sizes(Array x, const char* x_name, Array weight, const char* weight_name) {
    const auto [n, in] = shape_of<2>(x, x_name);
    const auto [out, weight_in] = shape_of<2>(weight, weight_name);
    if (n < 1 || in < 1) refuse(x_name, "must not be empty");
    if (out < 1) refuse(weight_name, "must not be empty");
    if (weight_in != in) {
        refuse(weight_name, "must have as many columns as " + std::string(x_name) + ", " +
                                std::to_string(in) + ", not " + std::to_string(weight_in));
    }
    return {n, in, out};
}

void linear_forward(Array x, Array weight, Maybe bias, Array out, const std::string& epilogue) {
    const Sizes s = linear_sizes(x, "x", weight, "weight");
    run(&Table::linear_forward, s.n, s.in, s.out, data<const float>(x, "x"),
        data<const float>(weight, "weight"), data<const float, 1>(bias, "bias", {s.out}),
        to_epilogue(epilogue, false), data<float, 2>(out, "out", {s.n, s.out}));
}

void linear_input_gradient(Array grad, Array weight, Array grad_x, Maybe out, Maybe argmax) {
    const Below below = to_below(grad_x, out, argmax);
    const Sizes s = linear_sizes(out ? *out : grad_x, out ? "out" : "grad_x", weight, "weight");
    run(&Table::linear_input_gradient, s.n, s.in, s.out,
        data<const float, 2>(grad, "grad", {s.n, s.out}), data<const float>(weight, "weight"),
        below, data<float>(grad_x, "grad_x"));
}

void linear_weight_gradient(Maybe x, Array grad, Maybe grad_weight, Maybe grad_bias) {
    const auto [n, out] = shape_of<2>(grad, "grad");
    const auto* from = data<const float>(grad, "grad");
    float* sums = data<float, 1>(grad_bias, "grad_bias", {out});
    if (grad_weight) {
        if (!x) refuse("x", "must not be None where grad_weight is wanted");
        const Sizes s = linear_sizes(*x, "x", *grad_weight, "grad_weight");
        data<const float, 2>(grad, "grad", {s.n, s.out});
        run(&Table::linear_weight_gradient, s.n, s.in, s.out, data<const float>(*x, "x"), from,
            data<float>(*grad_weight, "grad_weight"));
    }
    if (sums != nullptr) run(&Table::column_sums, n, out, from, sums);
}

// -- pooling, dropout, normalisation ------------------------------------------------------------

void max_pool_forward(Array x, Array out, Maybe argmax, Index window, Index stride) {
    const Pool2d s = to_pool2d(shape_of<4>(x, "x"), window, stride);
    const std::array<Index, 4> map = {s.n, s.p, s.q, s.c};
    run(&Table::max_pool_forward, s, data<const float>(x, "x"), data<float>(out, "out", map),
        data<uint8_t>(argmax, "argmax", map));
}

void max_pool_backward(Array grad, Array argmax, Array grad_x, Index window, Index stride) {
    const Pool2d s = to_pool2d(shape_of<4>(grad_x, "grad_x"), window, stride);
    const std::array<Index, 4> map = {s.n, s.p, s.q, s.c};
    run(&Table::max_pool_backward, s, data<const float>(grad, "grad", map),
        data<const uint8_t>(argmax, "argmax", map), data<float>(grad_x, "grad_x"));
}

void dropout(Array x, Array rng, Array out, double rate, uint32_t layer) {
    if (!(rate >= 0 && rate < 1)) refuse("rate", "must be at least 0 and below 1");
    run(&Table::dropout, x.size(), data<const float>(x, "x"), to_random(rng), rate, layer,
        like<float>(out, "out", x));
}

Index channels_of(Array x, const char* name) {
    if (x.ndim() < 1 || x.size() < 1) refuse(name, "must not be empty");
    return x.shape(x.ndim() - 1);
}

void batch_norm_forward(Array x, Array weight, Array bias, Array running_mean,
                        Array running_variance, Maybe moving, Array out, Array mean,
                        Array inverse_std, double momentum, double epsilon,
                        const std::string& epilogue) {
    const Index channels = channels_of(x, "x");
    const std::array<Index, 1> row = {channels};
    run(&Table::batch_norm_forward, x.size() / channels, channels, data<const float>(x, "x"),
        data<const float>(weight, "weight", row), data<const float>(bias, "bias", row),
        data<float>(running_mean, "running_mean", row),
        data<float>(running_variance, "running_variance", row),
        data<const uint8_t>(moving, "moving", row), momentum, epsilon, to_epilogue(epilogue, false),
        like<float>(out, "out", x), data<float>(mean, "mean", row),
        data<float>(inverse_std, "inverse_std", row));
}

void batch_norm_backward(Maybe x, Array grad, Array weight, Array mean, Array inverse_std,
                         Maybe moving, Maybe grad_x, Maybe grad_weight, Maybe grad_bias) {
    const Index channels = channels_of(grad, "grad");
    const std::array<Index, 1> row = {channels};
    const auto* flags = data<const uint8_t>(moving, "moving", row);
    bool needs_x = grad_weight.has_value();
    for (Index c = 0; grad_x && flags != nullptr && c < channels; ++c) needs_x |= flags[c] != 0;
    if (needs_x && !x) refuse("x", "must not be None for grad_weight and for channels that move");
    run(&Table::batch_norm_backward, grad.size() / channels, channels,
        like<const float>(x, "x", grad), data<const float>(grad, "grad"),
        data<const float>(weight, "weight", row), data<const float>(mean, "mean", row),
        data<const float>(inverse_std, "inverse_std", row), flags,
        like<float>(grad_x, "grad_x", grad), data<float>(grad_weight, "grad_weight", row),
        data<float>(grad_bias, "grad_bias", row));
}

// -- input, loss, update ------------------------------------------------------------------------

// Rows of a table by index, or -1 in padding rows.
template <class T>
void gather(const T* table, Index columns, const int32_t* rows, Index n, T* out) {
    for (Index i = 0; i < n; ++i) {
        for (Index k = 0; k < columns; ++k) {
            out[i * columns + k] = rows[i] < 0 ? T{-1} : table[rows[i] * columns + k];
        }
    }
}

void augment(Array images, Array labels, Array indices, Array rng, Array x, Array y, double flip,
             double shift, double rotation, double scale, Index cutout, double mean, double std) {
    const auto [count, height, width] = shape_of<3>(images, "images");
    const auto [n] = shape_of<1>(indices, "indices");
    const auto* rows = data<const int32_t>(indices, "indices");
    check_range(rows, n, "indices", count);
    if (cutout < 0 || cutout > height || cutout > width) {
        refuse("cutout", "must be from 0 to the size of the images");
    }
    const auto* pixels = data<const uint8_t>(images, "images");
    const auto random = to_random(rng);
    auto* normalised = data<float, 4>(x, "x", {n, height, width, 1});
    if (labels.ndim() == 2) {
        const Index classes = labels.shape(1);
        gather(data<const float, 2>(labels, "labels", {count, classes}), classes, rows, n,
               data<float, 2>(y, "y", {n, classes}));
    } else {
        gather(data<const int32_t, 1>(labels, "labels", {count}), 1, rows, n,
               data<int32_t, 1>(y, "y", {n}));
    }
    run(&Table::augment, n, height, width, pixels, rows, random,
        Augmentation{flip, shift, rotation, scale, cutout, mean, std}, normalised);
}

// Labels, or shares of all classes.
Labels to_labels(const py::array& labels, Index n, Index classes, bool multi_target) {
    if (labels.ndim() == 2) {
        const auto* shares = data<const float, 2>(labels, "labels", {n, classes});
        return {nullptr, shares, multi_target};
    }
    const auto* of = data<const int32_t, 1>(labels, "labels", {n});
    check_range(of, n, "labels", classes);
    return {of, nullptr, multi_target};
}

void softmax_cross_entropy(Array logits, Array labels, Maybe class_weights, Array statistics,
                           Maybe grad_logits, double label_smoothing, bool multi_target) {
    const auto [n, classes] = shape_of<2>(logits, "logits");
    if (classes < 1) refuse("logits", "must not be empty");
    run(&Table::softmax_cross_entropy, n, classes, data<const float>(logits, "logits"),
        to_labels(labels, n, classes, multi_target),
        data<const float, 1>(class_weights, "class_weights", {classes}), label_smoothing,
        data<double, 1>(statistics, "statistics", {4}),
        like<float>(grad_logits, "grad_logits", logits));
}

void clip_gradients(const std::vector<py::array>& gradients,
                    const std::vector<std::optional<py::array>>& masks, Array rates,
                    double max_norm) {
    if (gradients.size() != masks.size()) refuse("masks", "must be as many as gradients");
    double* values = data<double, 1>(rates, "rates", {4});
    std::vector<Gradient> all;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
        all.push_back({data<const float>(gradients[i], "gradients"), gradients[i].size(),
                       to_mask(masks[i], gradients[i])});
    }
    const double norm = run(&Table::gradient_norm, all.data(), static_cast<Index>(all.size()));
    values[3] = norm <= max_norm ? 1.0 : max_norm / norm;  // NaN if the norm is
}

void sgd_update(Array parameter, Array gradient, Maybe velocity, Maybe mask, Array rates,
                double momentum, bool nesterov, double weight_decay) {
    run(&Table::sgd_update, parameter.size(), data<float>(parameter, "parameter"),
        like<const float>(gradient, "gradient", parameter),
        like<float>(velocity, "velocity", parameter), to_mask(mask, parameter), to_rates(rates),
        Sgd{momentum, weight_decay, nesterov});
}

void adam_update(Array parameter, Array gradient, Array first, Array second, Maybe mask,
                 Array rates, double beta1, double beta2, double epsilon, double weight_decay,
                 bool decoupled) {
    run(&Table::adam_update, parameter.size(), data<float>(parameter, "parameter"),
        like<const float>(gradient, "gradient", parameter), like<float>(first, "first", parameter),
        like<float>(second, "second", parameter), to_mask(mask, parameter), to_rates(rates),
        Adam{beta1, beta2, epsilon, weight_decay, decoupled});
}

py::dict build_info() {
    py::dict info;
#ifdef FERCORE_OPENBLAS
    info["blas"] = std::string(scipy_openblas_get_config());
    info["blas_core"] = std::string(scipy_openblas_get_corename());
#else
    info["blas"] = "own";
    info["blas_core"] = level().name;
#endif
    info["compiler"] = FERCORE_COMPILER;
    info["instructions"] = level().name;
    info["threads"] = all_threads();
    return info;
}

}  // namespace
}  // namespace fercore

PYBIND11_MODULE(_fercore_cpu, m) {
    using namespace fercore;
    m.doc() = "Kernels of fercore's cpu backend, called by fercore.backends.cpu.";
#ifdef FERCORE_OPENBLAS
    scipy_openblas_set_num_threads(1);  // the kernels call it from threads of their own
#endif
    build_info();  // complains about the environment now rather than in the first call
#define FERCORE_DEFINE(name) m.def(#name, &name);
    FERCORE_DEFINE(accumulate)
    FERCORE_DEFINE(conv2d_forward)
    FERCORE_DEFINE(conv2d_input_gradient)
    FERCORE_DEFINE(conv2d_weight_gradient)
    FERCORE_DEFINE(epilogue_gradient)
    FERCORE_DEFINE(linear_forward)
    FERCORE_DEFINE(linear_input_gradient)
    FERCORE_DEFINE(linear_weight_gradient)
    FERCORE_DEFINE(max_pool_forward)
    FERCORE_DEFINE(max_pool_backward)
    FERCORE_DEFINE(dropout)
    FERCORE_DEFINE(batch_norm_forward)
    FERCORE_DEFINE(batch_norm_backward)
    FERCORE_DEFINE(augment)
    FERCORE_DEFINE(softmax_cross_entropy)
    FERCORE_DEFINE(clip_gradients)
    FERCORE_DEFINE(sgd_update)
    FERCORE_DEFINE(adam_update)
    FERCORE_DEFINE(build_info)
    FERCORE_DEFINE(set_threads)
    FERCORE_DEFINE(threads)
#undef FERCORE_DEFINE
}
