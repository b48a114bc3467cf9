"""Runs side by side: their order, their number, their share of the machine, and how they stop."""

import os
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from fercore import backends
from fercore.backends.cuda import FULL, CudaBackend
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.progress import Listener
from fercore.side_by_side import MOST, carry_out, default_jobs
from tests.narrow import Training, narrow


def plan(**starts):
    return [SimpleNamespace(id=run, starts_from=start) for run, start in starts.items()]


BL_AND_FOUR = plan(BL=None, a="BL", b="BL", c="BL", d="a")


class Machine:
    """A backend that notes how it is shared out."""

    def __init__(self, processors=4, free=None):
        self.processors, self.free = processors, free
        self.shares = []

    def free_memory(self):
        return self.free

    def runs_at_once(self, operations):
        return self.processors

    def share(self, runs):
        self.shares.append(runs)


class Watch:
    """Carries out runs of a few steps; notes how many are under way, and in which order."""

    def __init__(self, seconds=0.01):
        self.seconds = seconds
        self.lock = threading.Lock()
        self.active, self.most, self.begun, self.done = 0, 0, [], []

    def __call__(self, run, listener):
        with self.lock:
            assert run.starts_from is None or run.starts_from in self.done
            self.begun.append(run.id)
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            for step in range(3):
                time.sleep(self.seconds)
                listener.step(run.id, step, 3)
        finally:
            with self.lock:
                self.active -= 1
        with self.lock:
            self.done.append(run.id)
        return [run.id]


@pytest.mark.parametrize(("jobs", "most"), [(1, 1), (2, 2), (9, 3)])
def test_each_run_follows_the_one_it_starts_from(jobs, most):
    watch, machine = Watch(), Machine()
    assert carry_out(BL_AND_FOUR, watch, machine, Listener(), jobs=jobs) == [
        *("BL", "a", "b", "c"),
        "d",
    ]
    assert watch.begun[0] == "BL"
    assert watch.most == most
    assert max(machine.shares) == most
    assert machine.shares[0] == 1  # nothing can run beside BL


def test_one_at_a_time_they_run_in_order_in_the_calling_thread():
    threads = []

    def execute(run, listener):
        threads.append((run.id, threading.current_thread()))
        return []

    carry_out(BL_AND_FOUR, execute, Machine(), Listener(), jobs=1)
    assert threads == [(run.id, threading.current_thread()) for run in BL_AND_FOUR]


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_stops_the_others_at_their_next_step(jobs):
    watch = Watch()

    def execute(run, listener):
        if run.id == "a":
            raise FercoreError("a: the loss became nan")
        if run.id == "b":
            for step in range(1000):
                time.sleep(0.01)
                listener.step("b", step, 1000)
        return watch(run, listener)

    with pytest.raises(FercoreError, match="a: the loss became nan"):
        carry_out(BL_AND_FOUR, execute, Machine(), Listener(), jobs=jobs)
    assert not {"b", "d"} & set(watch.done)
    assert threading.active_count() == 1


def test_a_listener_that_fails_stops_everything():
    class Broken(Listener):
        def finished(self, run, records):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        carry_out(BL_AND_FOUR, Watch(), Machine(), Broken(), jobs=3)


@pytest.fixture
def heeds_ctrl_c():
    """Python leaves SIGINT ignored if it was started so, as by a shell in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_stops_every_run():
    watch = Watch()

    def execute(run, listener):
        if run.id == "c":
            signal.raise_signal(signal.SIGINT)  # is delivered to the main thread
        return watch(run, listener)

    def endless(run, listener):
        if run.id in "ab":
            for step in range(1000):
                time.sleep(0.01)
                listener.step(run.id, step, 1000)
        return execute(run, listener)

    with pytest.raises(KeyboardInterrupt):
        carry_out(BL_AND_FOUR, endless, Machine(), Listener(), jobs=3)
    assert not {"a", "b"} & set(watch.done)
    assert threading.active_count() == 1


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_waits_for_a_run_in_the_middle_of_a_step():
    """A thread that is still in a kernel when the interpreter goes would bring the process down."""
    ended = []

    def execute(run, listener):
        listener.step(run.id, 0, 2)
        for seconds in (0.1, 0.3):  # pressed twice
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.5)  # the step
        ended.append(run.id)
        listener.step(run.id, 1, 2)

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan(BL=None), execute, Machine(), Listener(), jobs=2)
    assert ended == ["BL"]
    assert threading.active_count() == 1


def test_listeners_are_told_by_one_thread_at_a_time():
    class Careful(Listener):
        inside = False

        def step(self, run, done, total):
            assert not self.inside
            self.inside = True
            time.sleep(0.001)
            self.inside = False

    carry_out(BL_AND_FOUR, Watch(0), Machine(), Careful(), jobs=3)


def test_by_default_there_is_a_run_a_processor_up_to_a_limit():
    assert default_jobs(Machine(2), memory=100, operations=1.0) == 2
    assert default_jobs(Machine(1000), memory=100, operations=1.0) == MOST


def test_by_default_there_are_no_more_runs_than_memory_has_room_for():
    assert default_jobs(Machine(4, free=299), memory=100, operations=1.0) == 2
    assert default_jobs(Machine(4, free=99), memory=100, operations=1.0) == 1


def test_a_gpu_takes_as_many_small_steps_as_fill_it():
    """An estimate that needs no GPU: only the operations of a step count."""
    at_once = partial(CudaBackend.runs_at_once, None)
    assert at_once(FULL / 4) == 4
    assert at_once(20 * FULL) == 1
    assert at_once(0.0) >= MOST


@pytest.fixture
def emulated():
    try:
        return backends.get("emulated")
    except FercoreError as error:
        pytest.skip(str(error))


def test_runs_that_share_a_device_compute_what_each_computes_alone(emulated):
    """One backend, a thread a run: each has its own queue and its own scratch memory."""

    recipe = Recipe(optimizer="sgd", momentum=0.9, clip_norm=0.5)

    def trained(jobs):
        runs = {
            name: Training(emulated, narrow("tiny-bn", emulated, seed=seed), recipe)
            for seed, name in enumerate("abcd")
        }

        def execute(run, listener):
            for step in range(3):  # calls, a graph that is captured, and its replay
                runs[run.id].step(recorded=True)
                listener.step(run.id, step, 3)
            return []

        carry_out(plan(a=None, b=None, c=None, d=None), execute, emulated, Listener(), jobs=jobs)
        return {name: run.everything() for name, run in runs.items()}

    alone, together = trained(1), trained(4)
    assert together == alone
    assert len({one["fc1.weight"] for one in alone.values()}) == 4, "four different runs"
