// Sums of gradients, and updates of parameters under masks. Entries whose mask is 0 are never
// changed, by a bit.

#include <cmath>

#include "kernels.hpp"
#include "parallel.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

// body(begin, end, keep) for runs of entries that may all change (keep is null), or of which those
// may change whose keep[i] is not 0.
template <class Body>
void for_unmasked(Index begin, Index end, const Mask& mask, const Body& body) {
    if (mask.data == nullptr || mask.span == 1) {
        body(begin, end, mask.data);
        return;
    }
    while (begin < end) {
        const Index channel = begin / mask.span;
        const Index last = smaller(end, (channel + 1) * mask.span);
        if (mask.data[channel] != 0) body(begin, last, nullptr);
        begin = last;
    }
}

}  // namespace

void accumulate(Index size, float* total, const float* term) {
    for_blocks(size, elements_a_block, [&](Index begin, Index end) {
#pragma omp simd
        for (Index i = begin; i < end; ++i) total[i] += term[i];
    });
}

double gradient_norm(const Gradient* gradients, Index count) {
    double total = 0;
    for (Index g = 0; g < count; ++g) {
        const auto [data, size, mask] = gradients[g];
        const Index blocks = ceil_div(size, elements_a_block);
        double* partial = scratch<double>(Slot::sums, blocks);
        for_blocks(size, elements_a_block, [&, data = data](Index begin, Index end) {
            double squares = 0;
            for_unmasked(begin, end, mask, [&](Index from, Index to, const std::uint8_t* keep) {
#pragma omp simd reduction(+ : squares)
                for (Index i = from; i < to; ++i) {
                    const double value = keep == nullptr || keep[i] != 0 ? double{data[i]} : 0.0;
                    squares += value * value;
                }
            });
            partial[begin / elements_a_block] = squares;
        });
        for (Index b = 0; b < blocks; ++b) total += partial[b];
    }
    return std::sqrt(total);
}

void sgd_update(Index size, float* parameter, const float* gradient, float* velocity,
                const Mask& mask, const Rates& rates, const Sgd& sgd) {
    const float rate = static_cast<float>(rates.rate), clip = static_cast<float>(rates.clip);
    const float decay = static_cast<float>(sgd.weight_decay);
    const float momentum = static_cast<float>(sgd.momentum);
    const auto run = [&](Index begin, Index end, const std::uint8_t* keep) {
#pragma omp simd
        for (Index i = begin; i < end; ++i) {
            const bool moves = keep == nullptr || keep[i] != 0;
            const float g = clip * gradient[i] + decay * parameter[i];
            const float v = velocity == nullptr ? g : momentum * velocity[i] + g;
            const float step = sgd.nesterov ? g + momentum * v : v;
            if (velocity != nullptr) velocity[i] = moves ? v : velocity[i];
            parameter[i] = moves ? parameter[i] - rate * step : parameter[i];
        }
    };
    for_blocks(size, elements_a_block,
               [&](Index begin, Index end) { for_unmasked(begin, end, mask, run); });
}

void adam_update(Index size, float* parameter, const float* gradient, float* first, float* second,
                 const Mask& mask, const Rates& rates, const Adam& adam) {
    const float rate = static_cast<float>(rates.rate), clip = static_cast<float>(rates.clip);
    const float beta1 = static_cast<float>(adam.beta1), beta2 = static_cast<float>(adam.beta2);
    const float rest1 = static_cast<float>(1 - adam.beta1);
    const float rest2 = static_cast<float>(1 - adam.beta2);
    const float correction1 = static_cast<float>(rates.correction1);
    const float correction2 = static_cast<float>(rates.correction2);
    const float epsilon = static_cast<float>(adam.epsilon);
    const float coupled = adam.decoupled ? 0.0F : static_cast<float>(adam.weight_decay);
    const float decoupled = adam.decoupled ? static_cast<float>(adam.weight_decay) : 0.0F;
    const auto run = [&](Index begin, Index end, const std::uint8_t* keep) {
#pragma omp simd
        for (Index i = begin; i < end; ++i) {
            const bool moves = keep == nullptr || keep[i] != 0;
            const float p = parameter[i], g = clip * gradient[i] + coupled * p;
            const float m = beta1 * first[i] + rest1 * g;
            const float v = beta2 * second[i] + rest2 * (g * g);
            const float step = m / correction1 / (std::sqrt(v / correction2) + epsilon);
            first[i] = moves ? m : first[i];
            second[i] = moves ? v : second[i];
            parameter[i] = moves ? p - rate * (step + decoupled * p) : p;
        }
    };
    for_blocks(size, elements_a_block,
               [&](Index begin, Index end) { for_unmasked(begin, end, mask, run); });
}

}  // namespace fercore::FERCORE_LEVEL
