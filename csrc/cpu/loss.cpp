#include <cmath>

#include "kernels.hpp"

namespace fercore::FERCORE_LEVEL {

void softmax_cross_entropy(Index n, Index classes, const float* logits, const std::int32_t* labels,
                           const float* class_weights, double label_smoothing, double* statistics,
                           float* grad_logits) {
    const auto weight = [&](Index i) {
        if (labels[i] < 0) return 0.0;
        return class_weights == nullptr ? 1.0 : double{class_weights[labels[i]]};
    };
    double total_weight = 0;
    for (Index i = 0; i < n; ++i) total_weight += weight(i);
    statistics[1] += total_weight;

    for (Index i = 0; i < n; ++i) {
        const float* row = logits + i * classes;
        float* grad = grad_logits == nullptr ? nullptr : grad_logits + i * classes;
        if (labels[i] < 0 || total_weight == 0) {
            for (Index k = 0; grad != nullptr && k < classes; ++k) grad[k] = 0;
        }
        if (labels[i] < 0) continue;

        Index best = 0;  // the first of the largest, or the first NaN
        for (Index k = 1; k < classes; ++k) {
            if (!(row[k] <= row[best]) && row[best] == row[best]) best = k;
        }
        double sum = 0;
        for (Index k = 0; k < classes; ++k) sum += std::exp(double{row[k]} - row[best]);
        const double log_sum = std::log(sum);
        double loss = 0;
        for (Index k = 0; k < classes; ++k) {
            const double log_p = double{row[k]} - row[best] - log_sum;
            const double target = (k == labels[i] ? 1 - label_smoothing : 0.0) +
                                  label_smoothing / static_cast<double>(classes);
            loss -= target == 0 ? 0 : target * log_p;  // so that 0 * -infinity is 0
            if (grad != nullptr && total_weight != 0) {
                grad[k] = static_cast<float>(weight(i) * (std::exp(log_p) - target) / total_weight);
            }
        }
        statistics[0] += weight(i) * loss;
        statistics[2] += best == labels[i] ? 1 : 0;
        statistics[3] += 1;
    }
}

}  // namespace fercore::FERCORE_LEVEL
