"""What the steps of an epoch find in the backend's memory, so that none of them waits for the host.

The order of an epoch's images and the rates of its updates are known before its first step. They
are written down together; a recorded step begins by turning to its own:

    order     7 2 9 4 │ 0 8 1 5 │ 3 6       rows of the images; the last batch may be smaller
    schedule  rates   │ rates   │ rates     of each step's update
                        ↑ cursor
"""

from __future__ import annotations

import numpy as np

from fercore.backends.interface import Backend, Buffer
from fercore.step import Plan

IN_FLIGHT = 64
"""Steps that are asked for before the host waits for the backend.

The backend then stands still until the next step reaches it, which is little beside 64 steps. And
whoever presses Ctrl-C waits for 64 steps at most.
"""


class Feed:
    """Rows, random state and rates for the steps of one epoch after another.

    ``images`` are visited in an epoch, in ``steps`` updates at most. ``rng`` and ``rates``, if
    there are any, are what the steps read; each finds its number and its rates there.
    """

    def __init__(
        self,
        backend: Backend,
        images: int,
        *,
        steps: int = 0,
        rng: Buffer | None = None,
        rates: Buffer | None = None,
    ) -> None:
        self.backend, self.rng, self.rates = backend, rng, rates
        self.order = backend.empty((images,), "int32")
        self.schedule = None if rates is None else backend.empty((steps, 4), "float64")
        self.cursor = backend.empty((3,), "uint32")
        self.ahead = 0  # steps asked for since the host last waited

    def start(self, order: np.ndarray, schedule: np.ndarray | None = None, number: int = 0) -> None:
        """Lay down an epoch, the number of whose first step in the run is ``number``.

        ``order`` holds the rows ``[images]``; ``schedule [steps, 4]`` what ``rates`` must be in
        each step, if there are any.
        """
        self.backend.write(self.order, order.astype(np.int32))
        if self.schedule is not None:
            assert schedule is not None, "each step needs its rates"
            self.backend.write(self.schedule, schedule)
        self.backend.write(self.cursor, np.array([0, 0, number], dtype=np.uint32))

    def next(self, backend: Backend, size: int) -> Buffer:
        """The first call of a step: the rows of its ``size`` images, int32, -1 for none.

        ``backend`` is this feed's own, or one that records for it.
        """
        indices = backend.empty((size,), "int32")
        with backend.scope("batch forward"):
            backend.advance(self.cursor, self.order, self.schedule, indices, self.rng, self.rates)
        return indices

    def run(self, step: Plan) -> None:
        """Replay a recorded step; where the backend queues it, do not wait for its end."""
        step.replay()
        self.ahead += 1
        if self.ahead == IN_FLIGHT:
            self.backend.synchronize()
            self.ahead = 0
