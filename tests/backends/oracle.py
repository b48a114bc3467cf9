"""What the operations mean, once more: float64, by loops over their definitions.

Nothing here is shared with any backend, the reference included: no windows views, no einsum over
patches, no shifted slices. Philox, the one thing that is fixed by published vectors, is written
here in Python's integers.
"""

from __future__ import annotations

import math

import numpy as np

# -- convolution and linear ---------------------------------------------------------------------


def out_size(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _patches(x_shape, kernel, stride, padding):
    """Yield for each output pixel (p, q) the image's and the kernel's overlapping rectangles."""
    _, height, width, _ = x_shape
    kernel_h, kernel_w = kernel
    for p in range(out_size(height, kernel_h, stride, padding)):
        for q in range(out_size(width, kernel_w, stride, padding)):
            top, left = p * stride - padding, q * stride - padding
            t, b = max(top, 0), min(top + kernel_h, height)
            le, r = max(left, 0), min(left + kernel_w, width)
            image = slice(t, max(t, b)), slice(le, max(le, r))
            taps = slice(t - top, max(t, b) - top), slice(le - left, max(le, r) - left)
            yield p, q, image, taps


def conv2d(x, weight, bias=None, *, stride=1, padding=0):
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    outputs, kernel_h, kernel_w, _ = weight.shape
    shape = (
        len(x),
        out_size(x.shape[1], kernel_h, stride, padding),
        out_size(x.shape[2], kernel_w, stride, padding),
        outputs,
    )
    out = np.zeros(shape)
    for p, q, (rows, columns), (ky, kx) in _patches(x.shape, (kernel_h, kernel_w), stride, padding):
        for n in range(len(x)):
            seen = x[n, rows, columns].ravel()
            out[n, p, q] = weight[:, ky, kx].reshape(outputs, -1) @ seen
    return out if bias is None else out + bias.astype(np.float64)


def conv2d_gradients(x, weight, grad, *, stride=1, padding=0):
    """Gradients of ``sum(grad * conv2d(x, weight, bias))`` in x, weight and bias."""
    x, weight, grad = (a.astype(np.float64) for a in (x, weight, grad))
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(weight)
    for p, q, (rows, columns), (ky, kx) in _patches(x.shape, weight.shape[1:3], stride, padding):
        for n in range(len(x)):
            g = grad[n, p, q]
            grad_x[n, rows, columns] += np.tensordot(g, weight[:, ky, kx], 1)
            grad_weight[:, ky, kx] += np.multiply.outer(g, x[n, rows, columns])
    return grad_x, grad_weight, grad.sum((0, 1, 2))


def max_pool(x, window, stride):
    """The largest entry of each window, and its place, the first among equals; NaN wins."""
    n, height, width, channels = x.shape
    rows, columns = (height - window) // stride + 1, (width - window) // stride + 1
    out, argmax = (
        np.empty((n, rows, columns, channels)),
        np.empty((n, rows, columns, channels), int),
    )
    for place in np.ndindex(out.shape):
        i, p, q, c = place
        best = None
        for k in range(window * window):
            value = x[i, p * stride + k // window, q * stride + k % window, c]
            if best is None or (value > best) or (math.isnan(value) and not math.isnan(best)):
                best, argmax[place] = value, k
        out[place] = best
    return out, argmax


def max_pool_gradient(grad, argmax, x_shape, window, stride):
    grad_x = np.zeros(x_shape)
    for (i, p, q, c), k in np.ndenumerate(argmax):
        k = int(k)
        grad_x[i, p * stride + k // window, q * stride + k % window, c] += grad[i, p, q, c]
    return grad_x


# -- Philox -------------------------------------------------------------------------------------


def philox(counter, key):
    """Philox4x32-10 in Python's integers; see the known answers in test_philox.py."""
    a, b, c, d = (int(word) for word in counter)
    k, m = (int(word) for word in key)
    for _ in range(10):
        hi0, lo0 = divmod(0xD2511F53 * a, 1 << 32)
        hi1, lo1 = divmod(0xCD9E8D57 * c, 1 << 32)
        a, b, c, d = hi1 ^ b ^ k, lo1, hi0 ^ d ^ m, lo0
        k, m = (k + 0x9E3779B9) % (1 << 32), (m + 0xBB67AE85) % (1 << 32)
    return a, b, c, d


def u(word):
    return (word >> 8) / 2**24


def dropout_keeps(count, rng, rate, layer):
    seed, run, _, step = (int(word) for word in rng)
    words = [w for i in range(-(-count // 4)) for w in philox((i, step, layer, 0), (seed, run))]
    return np.array([u(word) >= rate for word in words[:count]])


# -- augmentation -------------------------------------------------------------------------------


def augment_one(image, index, rng, augmentation, mean, std):
    """One image ``[H, W]`` by the interface's formulas, a pixel at a time."""
    height, width = image.shape
    seed, run, epoch, _ = (int(word) for word in rng)
    w = [word for part in (0, 1) for word in philox((index, epoch, part, 1), (seed, run))]
    s = [2 * u(word) - 1 for word in w]
    dx, dy = augmentation.shift * s[1], augmentation.shift * s[2]
    a, z = augmentation.rotation * s[3] * math.pi / 180, 1 + augmentation.scale * s[4]
    side = augmentation.cutout
    left, top = (w[5] * (width - side + 1)) >> 32, (w[6] * (height - side + 1)) >> 32
    out = np.empty((height, width))
    for i, j in np.ndindex(height, width):
        p, q = j - (width - 1) / 2 - dx, i - (height - 1) / 2 - dy
        across = (math.cos(a) * p + math.sin(a) * q) / z + (width - 1) / 2
        down = (-math.sin(a) * p + math.cos(a) * q) / z + (height - 1) / 2
        if u(w[0]) < augmentation.flip:
            across = width - 1 - across
        gray = _hat_sum(image, down, across)
        inside = left <= j < left + side and top <= i < top + side
        out[i, j] = 0.0 if inside else (gray / 255 - mean) / std
    return out


def _hat_sum(image, down, across):
    """Bilinear interpolation as a sum over pixels of ``hat(distance down) * hat(across)``."""
    height, width = image.shape
    down, across = min(max(down, 0), height - 1), min(max(across, 0), width - 1)
    rows = np.maximum(0, 1 - np.abs(np.arange(height) - down))
    columns = np.maximum(0, 1 - np.abs(np.arange(width) - across))
    return float(rows @ image.astype(np.float64) @ columns)


# -- normalisation, loss, updates ---------------------------------------------------------------


def batch_norm(x, weight, bias, running_mean, running_variance, moving, momentum, epsilon):
    """out, mean, 1/std and the running statistics after, a channel at a time."""
    x = x.astype(np.float64)
    out = np.empty_like(x)
    mean, variance = running_mean.astype(np.float64), running_variance.astype(np.float64)
    running_mean, running_variance = mean.copy(), variance.copy()
    for c in range(x.shape[-1]):
        values = x[..., c]
        if moving is not None and moving[c]:
            mean[c], variance[c] = values.mean(), np.var(values)
            unbiased = np.var(values, ddof=1) if values.size > 1 else variance[c]
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean[c]
            running_variance[c] = (1 - momentum) * running_variance[c] + momentum * unbiased
        std = math.sqrt(variance[c] + epsilon)
        out[..., c] = float(weight[c]) * (values - mean[c]) / std + float(bias[c])
    return out, mean, 1 / np.sqrt(variance + epsilon), running_mean, running_variance


def batch_norm_gradients(x, grad, weight, moving, mean, inverse_std):
    """By the chain rule through the mean and the variance, as in the paper's section 3."""
    x, grad = x.astype(np.float64), grad.astype(np.float64)
    grad_x, grad_weight = np.empty_like(x), np.empty(x.shape[-1])
    for c in range(x.shape[-1]):
        values, g, i = x[..., c].ravel(), grad[..., c].ravel(), float(inverse_std[c])
        centred = values - float(mean[c])
        grad_weight[c] = sum(g * centred * i)
        g_hat = g * float(weight[c])
        result = g_hat * i
        if moving is not None and moving[c]:
            m = len(values)
            g_variance = sum(g_hat * centred) * -0.5 * i**3
            g_mean = -sum(g_hat) * i + g_variance * -2 * sum(centred) / m
            result = result + g_variance * 2 * centred / m + g_mean / m
        grad_x[..., c] = result.reshape(x.shape[:-1])
    return grad_x, grad_weight, grad.sum(tuple(range(grad.ndim - 1)))


def softmax_cross_entropy(
    logits, labels, class_weights=None, label_smoothing=0.0, multi_target=False
):
    """What ``statistics`` gains, and the gradient in the logits; a row at a time."""
    classes = logits.shape[1]
    gains, gradient, total = [0.0, 0.0, 0.0, 0.0], np.zeros(logits.shape), 0.0
    for row, label in enumerate(labels):
        if np.ndim(label) == 0:
            label = [-1.0] * classes if label < 0 else [float(k == label) for k in range(classes)]
        shares = [float(share) for share in label]
        if shares[0] < 0:
            continue
        scores = [float(score) for score in logits[row]]
        largest = max(scores)
        log_sum = largest + math.log(math.fsum(math.exp(score - largest) for score in scores))
        weight = 1.0
        if class_weights is not None:
            weight = math.fsum(s * float(w) for s, w in zip(shares, class_weights, strict=True))
        right = shares.index(max(shares))
        if multi_target:
            best = max(score for score, s in zip(scores, shares, strict=True) if s > 0)
            chosen = min(k for k in range(classes) if shares[k] > 0 and scores[k] == best)
            shares = [float(k == chosen) for k in range(classes)]
        target = [label_smoothing / classes + (1 - label_smoothing) * share for share in shares]
        loss = math.fsum(t * (log_sum - score) for t, score in zip(target, scores, strict=True))
        gradient[row] = [
            weight * (math.exp(score - log_sum) - t)
            for score, t in zip(scores, target, strict=True)
        ]
        total += weight
        gains[0] += weight * loss
        gains[1] += weight
        gains[2] += scores.index(largest) == right
        gains[3] += 1
    return np.array(gains), gradient / total if total else gradient


def sgd(p, g, v, *, rate, clip, momentum, nesterov, decay):
    """One entry's parameter and velocity after one step."""
    g = clip * g + decay * p
    v = momentum * v + g
    return p - rate * (g + momentum * v if nesterov else v), v


def adam(p, g, m, v, *, rate, c1, c2, clip, beta1, beta2, epsilon, decay, decoupled):
    """One entry's parameter and two moments after one step."""
    g = clip * g if decoupled else clip * g + decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    shrunk = p * (1 - rate * decay) if decoupled else p
    return shrunk - rate * (m / c1) / (math.sqrt(v / c2) + epsilon), m, v
