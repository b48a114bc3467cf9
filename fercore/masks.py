"""What of a parameter may move.

A mask is *frozen*, *trainable*, or an array with one entry an output channel or one an element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class GradientMask:
    """What of a parameter may move; ``entries`` (bool or 0/1) is held only by partial masks."""

    kind: Literal["frozen", "trainable", "partial"]
    entries: np.ndarray | None = None

    @staticmethod
    def of(entries: Any, shape: tuple[int, ...]) -> GradientMask:
        """The mask of a parameter of ``shape``.

        Args:
            entries: True or False for the whole parameter; or an array with one entry an output
                channel (``[O]``, the first axis) or the parameter's own shape, non-zero where it
                may move.

        Raises:
            ValueError: the array fits neither shape.
        """
        import numpy as np

        array = np.asarray(entries)
        if array.shape not in ((), shape[:1], shape):
            raise ValueError(
                f"a mask of shape {array.shape} fits a parameter of shape {shape} neither by "
                f"output channel {shape[:1]} nor by element"
            )
        if array.all():
            return TRAINABLE
        if not array.any():
            return FROZEN
        return GradientMask("partial", np.ascontiguousarray(array != 0, dtype=np.uint8))


FROZEN = GradientMask("frozen")
TRAINABLE = GradientMask("trainable")
