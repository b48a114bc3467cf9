// Softmax and cross-entropy of logits [N][K], the loss and its gradient in one.
//
//   statistics [4] += the sum of w loss, the sum of w, the number of right answers, of rows
//   grad_logits [N][K] = w (p - t) / sum of w
//
// with p = softmax(logits), the target t = (1 - e) onehot(label) + e / K for label smoothing e, and
// the weight w of the row's label. A label below 0 marks a padding row.
//
// Floor: N K logits read and gradients written once and some 10 N K operations: nothing beside the
// time that a launch takes. So one block does it all: the sum of the weights, which every gradient
// needs, is known after one barrier, and sums have one order. Thread t owns rows t, t + 256, ...
//
// What a sum over rows needs is float64, as is the distance of two logits, which may overflow.
//
// T is the type of the gradient, float or bf16; logits are float.

#include "convert.cuh"
#include "reduce.cuh"

constexpr u32 threads = 256;

struct Sums {
    BlockSum<double, threads> of_block;
};

// What softmax needs to know of a row.
struct Row {
    float largest;  // its first largest logit; a NaN is larger than any number
    u32 answer;     // where it is
    float others;   // the sum of exp(logit - largest) over all but the answer
};

DEVICE Row look_at(Global<const float> logits, u32 k) {
    Row row = {logits[0], 0, 0.0F};
    for (u32 i = 1; i < k; ++i) {
        const float score = logits[i];
        if (row.largest == row.largest && !(score <= row.largest)) {
            row.largest = score;
            row.answer = i;
        }
    }
    for (u32 i = 0; i < k; ++i) {
        if (i != row.answer) row.others += expf(logits[i] - row.largest);
    }
    return row;
}

// The target's mean of -log p = log(sum of exp(logit - largest)) + largest - logit. The answer's
// own term of that sum is 1, so log1p keeps the small loss of a sure and right answer.
DEVICE double loss_of(Global<const float> logits, Row row, u32 label, u32 k, float smoothing) {
    const double largest = row.largest;
    double loss = log1pf(row.others) + (1.0 - smoothing) * (largest - logits[label]);
    if (smoothing > 0.0F) {
        double distances = 0.0;
        for (u32 i = 0; i < k; ++i) distances += largest - logits[i];
        loss += distances * smoothing / k;
    }
    return loss;
}

template <class T>
DEVICE void loss_and_gradient(Global<const float> logits, Global<const i32> labels,
                              Global<const float> class_weights, Global<double> statistics,
                              Global<T> grad_logits, u32 n, u32 k, float smoothing) {
    SHARED(Sums, sums);
    const u32 thread = threadIdx.x;
    double weights = 0.0, losses = 0.0, right = 0.0, rows = 0.0;
    for (u32 r = thread; r < n; r += threads) {
        const i32 label = labels[r];
        if (label >= 0) weights += class_weights ? class_weights[label] : 1.0F;
    }
    weights = sums.of_block(weights, thread);
    for (u32 r = thread; r < n; r += threads) {
        const i32 label = labels[r];
        const u64 begin = static_cast<u64>(r) * k;
        Row row = {0.0F, 0, 0.0F};
        float share = 0.0F;  // of the row in the loss of the batch
        if (label >= 0) {
            const float weight = class_weights ? class_weights[label] : 1.0F;
            row = look_at(logits + begin, k);
            losses += weight * loss_of(logits + begin, row, label, k, smoothing);
            right += row.answer == static_cast<u32>(label);
            rows += 1.0;
            if (weights != 0.0) share = static_cast<float>(weight / weights);
        }
        if (!grad_logits) continue;
        for (u32 i = 0; i < k; ++i) {
            float gradient = 0.0F;
            if (label >= 0 && weights != 0.0) {
                const float p = expf(logits[begin + i] - row.largest) / (1.0F + row.others);
                const float other = smoothing / k;
                const float t = i == static_cast<u32>(label) ? 1.0F - smoothing + other : other;
                gradient = share * (p - t);
            }
            grad_logits[begin + i] = from_float<T>(gradient);
        }
    }
    losses = sums.of_block(losses, thread);
    right = sums.of_block(right, thread);
    rows = sums.of_block(rows, thread);
    if (thread > 0) return;
    statistics[0] += losses;
    statistics[1] += weights;
    statistics[2] += right;
    statistics[3] += rows;
}

KERNEL(softmax_cross_entropy, threads, Global<const float> logits, Global<const i32> labels,
       Global<const float> class_weights, Global<double> statistics, Global<float> grad_logits,
       u32 n, u32 k, float smoothing) {
    loss_and_gradient(logits, labels, class_weights, statistics, grad_logits, n, k, smoothing);
}

KERNEL(softmax_cross_entropy_bf16, threads, Global<const float> logits, Global<const i32> labels,
       Global<const float> class_weights, Global<double> statistics, Global<bf16> grad_logits,
       u32 n, u32 k, float smoothing) {
    loss_and_gradient(logits, labels, class_weights, statistics, grad_logits, n, k, smoothing);
}
