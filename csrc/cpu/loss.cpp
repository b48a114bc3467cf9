#include <cmath>

#include "kernels.hpp"

namespace fercore::FERCORE_LEVEL {
namespace {

bool is_real(const Labels& labels, Index i, Index classes) {
    return (labels.shares == nullptr ? labels.of[i] : labels.shares[i * classes]) >= 0;
}

double weight_of(const Labels& labels, Index i, Index classes, const float* class_weights) {
    if (!is_real(labels, i, classes)) return 0;
    if (class_weights == nullptr) return 1;
    if (labels.shares == nullptr) return class_weights[labels.of[i]];
    double mean = 0;
    for (Index k = 0; k < classes; ++k) {
        mean += double{labels.shares[i * classes + k]} * class_weights[k];
    }
    return mean;
}

// The first of the largest values, or the first NaN, among those that `counts` of; -1: none does.
template <class Counts>
Index first_largest(Index size, const float* values, const Counts& counts) {
    Index best = -1;
    for (Index k = 0; k < size; ++k) {
        if (!counts(k)) continue;
        if (best < 0 || (!(values[k] <= values[best]) && values[best] == values[best])) best = k;
    }
    return best;
}

}  // namespace

void softmax_cross_entropy(Index n, Index classes, const float* logits, const Labels& labels,
                           const float* class_weights, double label_smoothing, double* statistics,
                           float* grad_logits) {
    const auto all = [](Index) { return true; };
    double total_weight = 0;
    for (Index i = 0; i < n; ++i) total_weight += weight_of(labels, i, classes, class_weights);
    statistics[1] += total_weight;

    for (Index i = 0; i < n; ++i) {
        const float* row = logits + i * classes;
        float* grad = grad_logits == nullptr ? nullptr : grad_logits + i * classes;
        const bool real = is_real(labels, i, classes);
        if (!real || total_weight == 0) {
            for (Index k = 0; grad != nullptr && k < classes; ++k) grad[k] = 0;
        }
        if (!real) continue;

        const float* shares = labels.shares == nullptr ? nullptr : labels.shares + i * classes;
        const double weight = weight_of(labels, i, classes, class_weights);
        const Index right = shares == nullptr ? labels.of[i] : first_largest(classes, shares, all);
        Index label = shares == nullptr ? right : -1;  // the only class with a share, if there is
        if (label < 0 && labels.multi_target) {
            label = first_largest(classes, row, [&](Index k) { return shares[k] > 0; });
        }

        const Index best = first_largest(classes, row, all);
        double sum = 0;
        for (Index k = 0; k < classes; ++k) sum += std::exp(double{row[k]} - row[best]);
        const double log_sum = std::log(sum);
        double loss = 0;
        for (Index k = 0; k < classes; ++k) {
            const double log_p = double{row[k]} - row[best] - log_sum;
            const double share = label < 0 ? double{shares[k]} : (k == label ? 1.0 : 0.0);
            const double target =
                share * (1 - label_smoothing) + label_smoothing / static_cast<double>(classes);
            loss -= target == 0 ? 0 : target * log_p;  // so that 0 * -infinity is 0
            if (grad != nullptr && total_weight != 0) {
                grad[k] = static_cast<float>(weight * (std::exp(log_p) - target) / total_weight);
            }
        }
        statistics[0] += weight * loss;
        statistics[2] += best == right ? 1 : 0;
        statistics[3] += 1;
    }
}

}  // namespace fercore::FERCORE_LEVEL
