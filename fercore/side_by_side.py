"""Carrying out runs, those that do not depend on each other at the same time.

A small network in small batches leaves processors waiting: two runs of one thread each come further
than one run of two. Each run is a thread here (kernels compute outside the interpreter's lock), and
the processors are shared out anew whenever a run begins or ends. On a GPU each has a stream of its
own. Nothing that a run computes depends on what goes on beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from fercore.backends.interface import Backend
from fercore.plan import Run
from fercore.progress import Line, Listener
from fercore.results import Record

MOST = 8
"""Runs at once unless more are asked for: each needs memory for itself."""

PATIENCE = 0.02  # seconds

Execute = Callable[[Run, Listener], list[Record]]


def default_jobs(backend: Backend, memory: int, operations: float) -> int:
    """How many runs at once are fastest, as far as the backend knows; see ``runs_at_once``.

    Fewer where there is no room for so many of ``memory`` bytes. ``operations`` are those of a
    step, in the mean over the runs.
    """
    free = backend.free_memory()
    room = MOST if free is None else free // max(memory, 1)
    return max(1, min(backend.runs_at_once(operations), MOST, room))


def carry_out(
    runs: Sequence[Run], execute: Execute, backend: Backend, listener: Listener, *, jobs: int
) -> list[Record]:
    """The records of all runs, in the order of the plan.

    Args:
        runs: each after the one it starts from.
        execute: carries out one run and tells the listener that it is given.
        backend: on which they compute.
        listener: told what happens, by one thread at a time.
        jobs: runs at once, at most; with 1 all is done in the calling thread.

    Raises:
        The first error of a run, once the others have stopped: at their next step. An interruption
        of the calling thread (Ctrl-C) stops them in the same way.
    """
    crew = _Crew(runs, execute, backend, listener)
    if jobs == 1:
        crew.work()
    else:
        crew.work_in_threads(min(jobs, len(runs)))
    if crew.error is not None:
        raise crew.error
    return [record for run in runs for record in crew.records[run.id]]


class _StoppedError(Exception):
    """Another run has failed, or the study was interrupted."""


class _Crew(Listener):
    """Threads that take runs as soon as these can begin; passes on what the runs tell."""

    def __init__(
        self, runs: Sequence[Run], execute: Execute, backend: Backend, listener: Listener
    ) -> None:
        self.execute, self.backend, self.listener = execute, backend, listener
        self.waiting = list(runs)
        self.active = 0
        self.threads = 0
        self.records: dict[str, list[Record]] = {}
        self.error: BaseException | None = None
        self.changed = threading.Condition()  # its lock guards all of the above

    def work_in_threads(self, count: int) -> None:
        threads = [threading.Thread(target=self._work_in_thread, daemon=True) for _ in range(count)]
        self.threads = count
        for thread in threads:
            thread.start()
        try:
            self._wait()
        except BaseException as error:  # Ctrl-C
            self._fail(error)
            while self.threads:
                with suppress(KeyboardInterrupt):  # pressed again: they stop at their next step
                    self._wait()
        for thread in threads:
            thread.join()

    def _work_in_thread(self) -> None:
        try:
            self.work()
        finally:
            with self.changed:
                self.threads -= 1

    def _wait(self) -> None:
        """Until no thread works any more, by looking again and again.

        Before CPython 3.13 a join that Ctrl-C interrupts takes a thread that still runs for one
        that has ended, and the process would end in the middle of a kernel.
        """
        while self.threads:
            time.sleep(PATIENCE)

    def work(self) -> None:
        """Carry out one run after another, until there is none left or something fails."""
        try:
            while (run := self._take()) is not None:
                self._finish(run, self.execute(run, self))
        except BaseException as error:
            self._fail(error)

    def _take(self) -> Run | None:
        """The first run whose start is there; waits while there is none, but will be."""
        with self.changed:
            while self.error is None and self.waiting:
                for run in self.waiting:
                    if run.starts_from is None or run.starts_from in self.records:
                        self.waiting.remove(run)
                        self.active += 1
                        self.listener.started(run.id)
                        self.backend.share(self.active)
                        return run
                self.changed.wait()
            return None

    def _finish(self, run: Run, records: list[Record]) -> None:
        with self.changed:
            self.records[run.id] = records
            self.active -= 1
            self.listener.finished(run.id, records)
            self.changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            if self.error is None and not isinstance(error, _StoppedError):
                self.error = error
            self.changed.notify_all()

    # -- what runs tell ---------------------------------------------------------------------------

    def step(self, run: str, done: int, total: int) -> None:
        with self.changed:
            if self.error is not None:
                raise _StoppedError
            self.backend.share(self.active)
            self.listener.step(run, done, total)

    def epoch(self, run: str, line: Line) -> None:
        with self.changed:
            self.listener.epoch(run, line)
