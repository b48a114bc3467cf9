"""What a backend is: an allocator and the arithmetic of one training step.

Every backend has exactly these methods, with these parameters and defaults; a test compares the
signatures. Conventions that hold for all of them:

* A *buffer* is an array of the backend (NumPy's on a CPU) with ``shape`` and ``dtype``.
* Methods write into the buffers they are given and return nothing. Outputs may hold anything
  before the call, even NaN, and are wholly overwritten unless a docstring says "adds to".
* Inputs are never modified. Buffers are C-contiguous; outputs never overlap inputs, except in
  ``accumulate``, ``advance`` and the updates, which modify their first argument in place.
* A ``None`` output is not wanted and not computed. A ``None`` optional input is absent.
* Layout is NHWC: images ``[N, H, W, C]``, convolution weights ``[O, KH, KW, C]``, fully connected
  weights ``[O, I]``. Labels are int32, where -1 marks a padding row that counts for nothing.
* Floating buffers have the backend's ``dtype``, but for activations, their gradients, and the
  weights that products read: those have its ``compute_dtype``, which is ``dtype`` or bf16. A bf16
  buffer is an array of uint16, its bits. Logits have ``dtype``, so ``linear_forward`` writes
  either; their gradient has ``compute_dtype``. Where the two differ, a weight is kept in both:
  updates move it in ``dtype``, the *master*, and write its *copy*, rounded to nearest even.
* Scalars that change from step to step live in two small buffers, so that a recorded step can be
  replayed without touching its calls: ``rng`` (uint32 ``[4]``: seed, run, epoch, step) and
  ``rates`` (float64 ``[4]``: learning rate, Adam's two bias corrections ``1 - beta**t``, and the
  clipping factor written by ``clip_gradients``). ``advance`` writes both for the step at hand.

Random numbers are Philox4x32-10 (Salmon et al., SC 2011) with key ``(seed, run)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fercore.backends.host_memory import free_host_memory

Buffer = Any  # numpy.ndarray on a CPU; a device array elsewhere
Epilogue = Literal["none", "relu", "relu_pool"]
"""What follows the bias: nothing, ReLU, or ReLU and a 2x2 max-pool with stride 2 (floor).

ReLU of a NaN is a NaN, so that a step that went wrong shows in its loss.
"""

DROPOUT_STREAM, AUGMENTATION_STREAM = 0, 1
"""Last word of the Philox counter, so that no two uses ever share random numbers."""

MEAN, STD = 0.5, 0.25
"""What networks are trained with: a pixel ``p`` (0 to 255) enters as ``(p / 255 - MEAN) / STD``."""


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; every field 0 leaves them as they are.

    Each image draws, uniformly and independently: a mirror image with probability ``flip``, a
    shift of up to ``shift`` pixels along each axis, a rotation of up to ``rotation`` degrees, a
    zoom by a factor in ``1 +- scale``, and one square of ``cutout`` pixels set to the mean gray.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    cutout: int = 0


class Backend(ABC):
    """Allocation and arithmetic; see the module for the conventions."""

    name: str
    dtype: np.dtype

    @property
    def compute_dtype(self) -> np.dtype:
        """Of activations, their gradients, and the weights that products read."""
        return self.dtype

    def build_info(self) -> dict[str, Any]:
        """How it was built and what it found here (threads, instruction set, libraries), as plain
        values for ``environment.json``."""
        return {}

    @property
    def processors(self) -> int:
        """Among how many runs its work can be shared out, each in a thread of its own."""
        return 1

    def runs_at_once(self, operations: float) -> int:
        """How many runs side by side are fastest whose steps take so many operations each."""
        return self.processors

    def share(self, runs: int) -> None:  # noqa: B027 (nothing to share out, as a rule)
        """From now on what the calling thread asks for may take one ``runs``-th of the processors.

        No result depends on it.
        """

    # -- memory ---------------------------------------------------------------------------------

    def free_memory(self) -> int | None:
        """Bytes that buffers can still take, by default of the host's; None if unknown."""
        return free_host_memory()

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any = None) -> Buffer:
        """A new uninitialised buffer; ``dtype`` defaults to the backend's own."""

    @abstractmethod
    def from_host(self, array: np.ndarray) -> Buffer:
        """A new buffer with a copy of ``array``; any floating dtype becomes the backend's own.

        (``rates`` are the exception: they are made with ``empty(4, float64)`` and ``write``.)
        """

    @abstractmethod
    def to_host(self, buffer: Buffer) -> np.ndarray:
        """A copy of ``buffer`` as a NumPy array; waits for pending work."""

    @abstractmethod
    def write(self, buffer: Buffer, array: np.ndarray) -> None:
        """Overwrite ``buffer`` with ``array`` of the same shape.

        Floating numbers are rounded to the buffer's dtype, bf16 included.
        """

    def hold(self, array: np.ndarray) -> Buffer | None:
        """``array``, as ``to_host`` gives them, in a buffer that is only read.

        It is the array itself where buffers are NumPy's, else a copy, or None where that would
        take too much of the room that is left.
        """
        return array

    def synchronize(self) -> None:  # noqa: B027 (where all is done at once there is no queue)
        """Wait until everything asked for so far is done."""

    @abstractmethod
    def view(self, buffer: Buffer, offset: int, shape: Sequence[int], dtype: Any) -> Buffer:
        """``shape`` entries of ``dtype`` that lie ``offset`` bytes into ``buffer``; no copy."""

    @abstractmethod
    def fill(self, buffer: Buffer, value: float) -> None:
        """Set every entry to ``value``."""

    @abstractmethod
    def accumulate(self, total: Buffer, term: Buffer) -> None:
        """Adds ``term`` to ``total`` in place (same shape)."""

    def capture(self, run: Callable[[], None]) -> Callable[[], None] | None:
        """The calls that ``run`` makes, as one that makes them all again on the same buffers.

        Nothing is computed meanwhile. None where calls cannot be put together.
        """
        return None

    def leaves_room(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call leaves much of the device idle, so that another one can run beside it.

        Of its buffers only shapes and dtypes matter. Never where calls run one after the other.
        """
        return False

    def stream(self, number: int) -> AbstractContextManager[None]:
        """Inside, the calling thread asks for calls in its stream 0, as it does else, or 1.

        Those of one stream run in order, those of different ones side by side but for ``wait``.
        """
        return nullcontext()

    def point(self) -> Any:
        """Where the stream is now, to be waited for."""
        return None

    def wait(self, point: Any) -> None:  # noqa: B027 (where all is done at once)
        """What comes next in the stream is done after all that came before ``point`` in its own."""

    def scope(self, label: str) -> AbstractContextManager[None]:
        """Names what runs inside (``"conv1_1 forward"``) for profilers and recorded steps."""
        return nullcontext()

    # -- convolution ----------------------------------------------------------------------------

    @abstractmethod
    def conv2d_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer | None,
        out: Buffer,
        argmax: Buffer | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        epilogue: Epilogue = "none",
    ) -> None:
        """Cross-correlation of ``x [N, H, W, C]`` with ``weight [O, KH, KW, C]``, zero padding.

        Before the epilogue the map is ``[N, P, Q, O]`` with ``P = (H + 2 padding - KH) // stride
        + 1``. ``out`` is that, or ``[N, P//2, Q//2, O]`` under ``relu_pool``, where ``argmax``
        (uint8, the shape of ``out``; ``None`` if no gradient will be asked for) receives ``2*dy +
        dx`` of the first largest entry of each window (any number below 4 where ``out`` is 0).
        """

    @abstractmethod
    def conv2d_input_gradient(
        self,
        grad: Buffer,
        weight: Buffer,
        grad_x: Buffer,
        out: Buffer | None = None,
        argmax: Buffer | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        """``grad_x [N, H, W, C]`` from ``grad [N, P, Q, O]``, the gradient before the epilogue.

        Given ``out [N, H, W, C]``, the result of the layer below that came in as ``x``, ``grad_x``
        is the gradient before that layer's epilogue, as ``epilogue_gradient`` computes it: before
        ``relu``, or with ``argmax`` (uint8, the shape of ``out``) before ``relu_pool``, and then
        ``[N, P', Q', C]`` with ``P' // 2 = H`` and ``Q' // 2 = W``.
        """

    @abstractmethod
    def conv2d_weight_gradient(
        self,
        x: Buffer | None,
        grad: Buffer,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        """``grad_weight [O, KH, KW, C]`` and ``grad_bias [O]`` from ``grad [N, P, Q, O]``.

        They may be in slices: see ``conv2d_gradient_slices``.
        ``x`` is read only for ``grad_weight``, and may be ``None`` without it.
        """

    def conv2d_gradient_slices(
        self, x: tuple[int, ...], weight: tuple[int, ...], *, stride: int = 1, padding: int = 0
    ) -> int:
        """Into how many slices ``conv2d_weight_gradient`` cuts its sums if it is given a weight.

        ``x`` and ``weight`` are shapes. Gradients in more than one slice can be left to their
        updates to sum: to both methods they are then given with a leading axis of so many partial
        sums, the bias's with the weight's.
        """
        return 1

    @abstractmethod
    def epilogue_gradient(
        self,
        grad: Buffer,
        out: Buffer,
        argmax: Buffer | None,
        grad_before: Buffer,
        *,
        epilogue: Epilogue,
    ) -> None:
        """The gradient before ``relu`` or ``relu_pool`` (never called with ``none``).

        ``relu``: ``grad`` where ``out > 0``, else 0 (any shape). ``relu_pool``: ``grad_before
        [N, P, Q, O]`` is 0 but at each window's ``argmax``, where it is ``grad`` if ``out > 0``.
        """

    # -- fully connected ------------------------------------------------------------------------

    @abstractmethod
    def linear_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer | None,
        out: Buffer,
        rng: Buffer | None = None,
        *,
        epilogue: Epilogue = "none",
        rate: float = 0.0,
        layer: int = 0,
    ) -> None:
        """``out [N, O] = x [N, I] @ weight[O, I].T + bias``, then ``none`` or ``relu``.

        Given ``rng``, ``dropout`` of ``rate`` in ``layer`` follows: activations, not logits. In
        bf16 the result is rounded once, after it.
        """

    @abstractmethod
    def linear_input_gradient(
        self,
        grad: Buffer,
        weight: Buffer,
        grad_x: Buffer,
        out: Buffer | None = None,
        argmax: Buffer | None = None,
        *,
        rate: float = 0.0,
    ) -> None:
        """``grad_x [N, I] = grad [N, O] @ weight``.

        ``out`` and ``argmax``, here ``[N, I]``, are what they are in ``conv2d_input_gradient``:
        with ``argmax``, ``grad_x`` is ``[N, P, Q, C]``, where ``P // 2 * (Q // 2) * C = I``. If
        dropout of ``rate`` followed the ReLU which made ``out``, ``grad_x`` is the gradient before
        both; no random number is needed, as ``out`` is positive where both let the gradient pass.
        """

    @abstractmethod
    def linear_weight_gradient(
        self,
        x: Buffer | None,
        grad: Buffer,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
    ) -> None:
        """``grad_weight [O, I] = grad.T @ x`` and ``grad_bias [O]``, the column sums of ``grad``.

        ``x`` is read only for ``grad_weight``, and may be ``None`` without it.
        """

    # -- pooling, dropout, normalisation --------------------------------------------------------

    @abstractmethod
    def max_pool_forward(
        self, x: Buffer, out: Buffer, argmax: Buffer | None, *, window: int, stride: int
    ) -> None:
        """Largest entry of each ``window x window`` patch; ``P = (H - window) // stride + 1``.

        ``argmax`` (uint8, so ``window <= 16``): ``dy * window + dx`` of the first largest entry.
        A NaN in a patch is its largest entry.
        """

    @abstractmethod
    def max_pool_backward(
        self, grad: Buffer, argmax: Buffer, grad_x: Buffer, *, window: int, stride: int
    ) -> None:
        """Each ``grad`` entry goes to its window's ``argmax``; overlapping windows add up."""

    @abstractmethod
    def dropout(self, x: Buffer, rng: Buffer, out: Buffer, *, rate: float, layer: int) -> None:
        """``out = x * keep / (1 - rate)``; its own gradient, so backward calls it on ``grad``.

        Entry ``i`` (flat) is kept where ``(word >> 8) * 2**-24 >= rate``, ``word`` being word
        ``i % 4`` of Philox at counter ``(i // 4, step, layer, DROPOUT_STREAM)``; ``rate`` is not
        rounded to float32. The epoch is not in the counter: steps count from the start of a run.
        """

    @abstractmethod
    def batch_norm_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer,
        running_mean: Buffer,
        running_variance: Buffer,
        moving: Buffer | None,
        out: Buffer,
        mean: Buffer,
        inverse_std: Buffer,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        epilogue: Epilogue = "none",
    ) -> None:
        """Normalise the last axis of ``x [..., C]``, scale by ``weight``, shift by ``bias``.

        Channels with ``moving`` (uint8 ``[C]``; ``None`` means none) 1 are normalised by the
        batch's mean and biased variance, and move ``running = (1 - momentum) * running + momentum *
        batch`` (with the unbiased variance) in place; the others are normalised by the running
        ones, which stay. The mean and ``1 / sqrt(variance + epsilon)`` in use go to ``mean [C]``
        and ``inverse_std [C]``. A batch of one row has no unbiased variance; it moves by the biased
        one, 0. ``epilogue`` is ``none`` or ``relu``. Ioffe and Szegedy, 2015.
        """

    @abstractmethod
    def batch_norm_backward(
        self,
        x: Buffer,
        grad: Buffer,
        weight: Buffer,
        mean: Buffer,
        inverse_std: Buffer,
        moving: Buffer | None,
        grad_x: Buffer | None,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
    ) -> None:
        """Gradients from ``grad``, the gradient before the epilogue.

        In channels that do not move, the statistics are constants. ``x`` is read only for
        ``grad_weight`` and for the ``grad_x`` of moving channels, and may be ``None`` otherwise.
        """

    # -- input, loss, update --------------------------------------------------------------------

    @abstractmethod
    def advance(
        self,
        cursor: Buffer,
        order: Buffer,
        schedule: Buffer | None,
        indices: Buffer,
        rng: Buffer | None,
        rates: Buffer | None,
    ) -> None:
        """Turn to the next step of an epoch, whose order and rates were written at its beginning.

        ``cursor`` (uint32 ``[3]``) counts the rows and the steps of the epoch that are done, and
        the steps of the run. ``indices`` (int32 ``[N]``) receives the next rows of ``order`` (int32
        ``[M]``), and -1 beyond its end; ``rates`` the step's row of ``schedule`` (float64 ``[S,
        4]``), the last one beyond its end; ``rng[3]`` the number of the step in the run. Then
        ``cursor`` moves on by ``(N, 1, 1)``. There is a ``schedule`` where there are ``rates``.
        """

    @abstractmethod
    def gather(self, table: Buffer, indices: Buffer, out: Buffer, *, padding: int = 0) -> None:
        """``out [N, ...] = table[indices]``; ``table [M, ...]`` holds activations or labels.

        ``indices`` is int32 ``[N]``; -1 gives a row of ``padding``.
        """

    @abstractmethod
    def scatter(self, values: Buffer, indices: Buffer, table: Buffer) -> None:
        """``table[indices] = values`` for ``values [N, ...]`` of the backend's ``dtype``.

        ``indices`` is int32 ``[N]``, all different; a row with -1 is left out, and what no index
        names stays as it is.
        """

    @abstractmethod
    def augment(
        self,
        images: Buffer,
        labels: Buffer,
        indices: Buffer,
        rng: Buffer,
        x: Buffer,
        y: Buffer,
        *,
        augmentation: Augmentation = Augmentation(),
        mean: float = MEAN,
        std: float = STD,
    ) -> None:
        """Gather, vary and normalise: ``x [N, H, W, 1] = (images[indices] / 255 - mean) / std``.

        ``images`` uint8 ``[M, H, W]``, ``labels`` int32 ``[M]``, ``indices`` int32 ``[N]`` (-1:
        a padding row, ``x`` 0 and label -1), ``y`` int32 ``[N]`` the gathered labels. Where labels
        are targets ``[M, K]`` of the backend's dtype, so is ``y [N, K]``; padding rows hold -1.

        An image draws eight words ``w``: Philox at counters ``(index, epoch, 0, S)`` and ``(index,
        epoch, 1, S)``, ``S = AUGMENTATION_STREAM``. With ``u(w) = (w >> 8) * 2**-24`` and
        ``s(w) = 2 u(w) - 1``: mirrored if ``u(w0) < flip``; shifts ``(dx, dy) = shift * s(w1),
        shift * s(w2)``; angle ``a = rotation * s(w3)`` degrees; zoom ``z = 1 + scale * s(w4)``;
        cutout's top-left corner ``(w5 * (W - cutout + 1)) >> 32`` across and the same of ``w6``,
        ``H`` down.

        Output pixel ``(i, j)`` is read at ``(v, u)`` by bilinear interpolation, border pixels
        repeated outwards: with ``p = j - (W-1)/2 - dx`` and ``q = i - (H-1)/2 - dy``,
        ``u = (cos a * p + sin a * q) / z + (W-1)/2`` (then ``W-1 - u`` if mirrored) and
        ``v = (-sin a * p + cos a * q) / z + (H-1)/2``. Cutout, in output pixels, comes last and
        sets ``x`` to 0, the mean gray. Geometry is in float64 (host) or float32 (device).
        """

    @abstractmethod
    def softmax_cross_entropy(
        self,
        logits: Buffer,
        labels: Buffer,
        class_weights: Buffer | None,
        statistics: Buffer,
        grad_logits: Buffer | None,
        *,
        label_smoothing: float = 0.0,
        multi_target: bool = False,
    ) -> None:
        """Loss and gradient in one; adds to ``statistics`` (float64 ``[4]``).

        ``labels`` are int32 ``[N]``, or targets ``[N, K]`` of the backend's dtype, each row of
        shares ``q`` that are not negative and sum to 1. A row is padding where its label, or its
        first share, is below 0. A label is the target ``q = onehot``. With ``multi_target`` any
        class with a share is a right answer, and ``q`` becomes the one-hot of the likeliest of
        them (first of equals), so that the loss is ``-log max_k [q_k > 0] p_k``: the multi-label
        loss of Barsoum et al. 2016 (arXiv:1608.01041).

        With ``p = softmax(logits)``, target ``t = (1 - e) q + e / K`` and weight ``w`` of the
        sample, the loss of a batch is ``sum_n w_n * -sum_k t_k log p_k / sum_n w_n``, and
        ``grad_logits`` its gradient ``w_n (p - t) / sum_n w_n``. ``w`` is the mean of the class
        weights under the shares as they were given, before smoothing and choice; of a label, its
        class's. ``statistics`` gains the sum of ``w_n * loss_n``, the sum of ``w_n``, the number
        of rows whose largest logit (first of equals) is the label, or the largest share (first of
        equals), and the number of rows. Padding rows count for none of them, whatever their
        logits, and have gradient 0; so has every row if the weights sum to 0.
        """

    @abstractmethod
    def clip_gradients(
        self,
        gradients: Sequence[Buffer],
        masks: Sequence[Buffer | None],
        rates: Buffer,
        *,
        max_norm: float,
    ) -> None:
        """Writes ``rates[3] = min(1, max_norm / norm)``, the norm over all unmasked entries.

        A norm of NaN makes the factor NaN. The masks are those of ``sgd_update``.
        """

    @abstractmethod
    def sgd_update(
        self,
        parameter: Buffer,
        gradient: Buffer,
        velocity: Buffer | None,
        mask: Buffer | None,
        rates: Buffer,
        copy: Buffer | None = None,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        """Stochastic gradient descent with momentum, in place.

        ``g = clip * gradient + decay * p``; ``v = momentum * v + g``; ``p -= rate * (g + momentum
        * v if nesterov else v)``; without ``velocity``, ``v = g``. Entries whose ``mask`` is 0 keep
        parameter and velocity bit for bit, whatever their gradient. ``mask`` (uint8): ``None``, one
        entry an output channel ``[O]``, or the full shape. ``copy`` (``compute_dtype``) receives
        the parameter where it moves; ``None`` where that is ``dtype``. A gradient in slices (see
        ``conv2d_gradient_slices``) is summed first.
        """

    @abstractmethod
    def adam_update(
        self,
        parameter: Buffer,
        gradient: Buffer,
        first: Buffer,
        second: Buffer,
        mask: Buffer | None,
        rates: Buffer,
        copy: Buffer | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        """Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019) if ``decoupled``.

        ``g = clip * gradient (+ decay * p unless decoupled)``; ``m = beta1 m + (1 - beta1) g``;
        ``v = beta2 v + (1 - beta2) g**2``; ``p -= rate * (m / c1 / (sqrt(v / c2) + epsilon)
        (+ decay * p if decoupled))`` with ``c1, c2`` from ``rates``. Masked, copied and
        summed as in ``sgd_update``.
        """
