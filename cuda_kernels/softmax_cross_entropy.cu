// Softmax and cross-entropy of logits [N][K], the loss and its gradient in one.
//
//   statistics [4] += the sum of w loss, the sum of w, the number of right answers, of rows
//   grad_logits [N][K] = w (p - t) / sum of w
//
// with p = softmax(logits), the target t = (1 - e) q + e / K for label smoothing e, and the weight
// w of the row. A row has a label, q = onehot(label), or shares q of all classes; with
// `multi_target` every class with a share is right, and q is the one-hot of the likeliest of them.
// Shares weigh the classes' weights. A label, or a first share, below 0 marks a padding row.
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

// What the rows should be: labels, or shares if they are not null.
struct Targets {
    Global<const i32> labels;
    Global<const float> shares;
    bool multi_target;
};

// What one row should be: the only class with a share, or none (-1) and shares.
struct Target {
    bool real;
    double weight;
    u32 right;  // the label, or the first largest share
    i32 label;
    Global<const float> shares;
};

DEVICE bool is_larger(float value, float largest) {  // a NaN is larger than any number
    return largest == largest && !(value <= largest);
}

DEVICE Target target_of(const Targets& of, Global<const float> class_weights, u32 r, u32 k) {
    if (!of.shares) {
        const i32 label = of.labels[r];
        if (label < 0) return {false, 0.0, 0, label, of.shares};
        const float weight = class_weights ? class_weights[label] : 1.0F;
        return {true, weight, static_cast<u32>(label), label, of.shares};
    }
    const Global<const float> shares = of.shares + static_cast<u64>(r) * k;
    if (shares[0] < 0.0F) return {false, 0.0, 0, -1, shares};
    Target target = {true, class_weights ? 0.0 : 1.0, 0, -1, shares};
    for (u32 i = 0; i < k; ++i) {
        if (shares[i] > shares[target.right]) target.right = i;
        if (class_weights) target.weight += static_cast<double>(shares[i]) * class_weights[i];
    }
    return target;
}

// The likeliest class that has a share.
DEVICE i32 choose(Global<const float> logits, Global<const float> shares, u32 k) {
    i32 chosen = -1;
    for (u32 i = 0; i < k; ++i) {
        if (shares[i] > 0.0F && (chosen < 0 || is_larger(logits[i], logits[chosen]))) {
            chosen = static_cast<i32>(i);
        }
    }
    return chosen;
}

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
        if (is_larger(score, row.largest)) {
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
DEVICE double loss_of(Global<const float> logits, Row row, const Target& target, u32 k,
                      float smoothing) {
    const double largest = row.largest;
    double distance = 0.0;  // the mean under the shares
    if (target.label >= 0) {
        distance = largest - logits[target.label];
    } else {
        for (u32 i = 0; i < k; ++i) {  // a share of 0 may meet an infinite distance
            if (target.shares[i] > 0.0F) distance += target.shares[i] * (largest - logits[i]);
        }
    }
    double loss = log1pf(row.others) + (1.0 - smoothing) * distance;
    if (smoothing > 0.0F) {
        double distances = 0.0;
        for (u32 i = 0; i < k; ++i) distances += largest - logits[i];
        loss += distances * smoothing / k;
    }
    return loss;
}

template <class T>
DEVICE void loss_and_gradient(Global<const float> logits, const Targets& targets,
                              Global<const float> class_weights, Global<double> statistics,
                              Global<T> grad_logits, u32 n, u32 k, float smoothing) {
    SHARED(Sums, sums);
    const u32 thread = threadIdx.x;
    double weights = 0.0, losses = 0.0, right = 0.0, rows = 0.0;
    for (u32 r = thread; r < n; r += threads) {
        weights += target_of(targets, class_weights, r, k).weight;
    }
    weights = sums.of_block(weights, thread);
    for (u32 r = thread; r < n; r += threads) {
        Target target = target_of(targets, class_weights, r, k);
        const u64 begin = static_cast<u64>(r) * k;
        Row row = {0.0F, 0, 0.0F};
        float part = 0.0F;  // of the row in the loss of the batch
        if (target.real) {
            row = look_at(logits + begin, k);
            if (targets.shares && targets.multi_target) {
                target.label = choose(logits + begin, target.shares, k);
            }
            losses += target.weight * loss_of(logits + begin, row, target, k, smoothing);
            right += row.answer == target.right;
            rows += 1.0;
            if (weights != 0.0) part = static_cast<float>(target.weight / weights);
        }
        if (!grad_logits) continue;
        for (u32 i = 0; i < k; ++i) {
            float gradient = 0.0F;
            if (target.real && weights != 0.0) {
                const float p = expf(logits[begin + i] - row.largest) / (1.0F + row.others);
                const float one_hot = static_cast<i32>(i) == target.label ? 1.0F : 0.0F;
                const float share = target.label < 0 ? target.shares[i] : one_hot;
                const float t = share * (1.0F - smoothing) + smoothing / k;
                gradient = part * (p - t);
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
       Global<const float> shares, Global<const float> class_weights, Global<double> statistics,
       Global<float> grad_logits, u32 n, u32 k, float smoothing, u32 multi_target) {
    loss_and_gradient(logits, {labels, shares, multi_target != 0}, class_weights, statistics,
                      grad_logits, n, k, smoothing);
}

KERNEL(softmax_cross_entropy_bf16, threads, Global<const float> logits, Global<const i32> labels,
       Global<const float> shares, Global<const float> class_weights, Global<double> statistics,
       Global<bf16> grad_logits, u32 n, u32 k, float smoothing, u32 multi_target) {
    loss_and_gradient(logits, {labels, shares, multi_target != 0}, class_weights, statistics,
                      grad_logits, n, k, smoothing);
}
