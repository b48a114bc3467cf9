"""Memory of a training: what is predicted is what is allocated, to the byte."""

from __future__ import annotations

import gc
import re
import weakref
from dataclasses import replace
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from fercore import backends, freeze, memory, models, training
from fercore.backends.reference import ReferenceBackend
from fercore.backends.sketch import SketchBackend
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.memory import Workload, footprint, largest_batch, noise
from tests.narrow import ARCHITECTURES

RECIPE = Recipe(epochs=2, batch_size=16, views=2)


@pytest.fixture(autouse=True)
def narrow_networks():
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


@pytest.fixture
def cpu():
    """The cpu backend, which counts the bytes that are asked of it."""
    try:
        backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))
    from fercore.backends.cpu import CpuBackend

    class Counting(CpuBackend):
        held = peak = 0

        def empty(self, shape, dtype=None):
            buffer = super().empty(shape, dtype)
            self.held += buffer.nbytes
            self.peak = max(self.peak, self.held)
            weakref.finalize(buffer, self.gone, buffer.nbytes)
            return buffer

        def gone(self, size):
            self.held -= size

    return Counting()


def images(count):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 48, 48)).astype(np.uint8)
    return noise(pixels, (np.arange(count) % 7).astype(np.int32))


def carry_out(workload, backend, folder):
    """Train and test as a study does."""
    model = models.build(workload.model, workload.classes, backend=backend)
    freeze.apply(model, workload.strategy)
    training.train(
        model,
        images(workload.images),
        {f"set {n}": images(count) for n, count in enumerate(workload.validation)},
        workload.recipe,
        choose_on=("set 0",),
        backend=backend,
        seed=0,
        run=0,
        folder=folder,
    )
    predict_logits(model, images(workload.tested).images, backend=backend)


@pytest.mark.parametrize("model", ["tiny", "tiny-bn"])
@pytest.mark.parametrize("strategy", freeze.STRATEGIES)
def test_the_peak_is_what_training_allocates(cpu, tmp_path, model, strategy):
    """37 images in batches of 16: five are left over, and have a step of their own."""
    workload = Workload(model, freeze.STRATEGIES[strategy], RECIPE, 37, (9, 20), 30)
    predicted = footprint(workload, "cpu")
    gc.collect()
    carry_out(workload, cpu, tmp_path)
    assert predicted.peak == cpu.peak
    assert sum(predicted.parts.values()) == predicted.peak


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=1, batch_size=64, optimizer="adam"),  # more than there are images
        Recipe(epochs=1, batch_size=20, momentum=0.0, clip_norm=1.0, class_weights="balanced"),
    ],
)
def test_other_recipes(cpu, tmp_path, recipe):
    workload = Workload("svgg5", freeze.STRATEGIES["BL"], recipe, 40, (5,), 3)
    predicted = footprint(workload, "cpu")
    carry_out(workload, cpu, tmp_path)
    assert predicted.peak == cpu.peak


def test_an_eighth_class_takes_its_part(cpu, tmp_path):
    seven = Workload("tiny", freeze.STRATEGIES["BL"], RECIPE, 37, (9,), 3)
    eight = replace(seven, classes=8)
    predicted = footprint(eight, "cpu")
    carry_out(eight, cpu, tmp_path)
    assert predicted.peak == cpu.peak
    assert predicted.parts["parameters"] > footprint(seven, "cpu").parts["parameters"]


def test_a_large_test_set_can_be_the_peak(cpu, tmp_path):
    workload = Workload("tiny", freeze.STRATEGIES["FC"], RECIPE, 20, (3,), 2000)
    predicted = footprint(workload, "cpu")
    carry_out(workload, cpu, tmp_path)
    assert predicted.peak == cpu.peak > sum(predicted.parts.values())


def test_parts():
    workload = Workload("tiny", freeze.STRATEGIES["BL"], RECIPE, 37, (9,), 1)
    parts = footprint(workload, "cpu").parts
    model = models.build("tiny", seed=None, backend=SketchBackend())
    assert parts["parameters"] == 4 * model.num_parameters()
    assert parts["moments"] == 4 * model.num_parameters() + 32
    pictures = 37 * (48 * 48 + 4)
    epoch = 37 * 4 + 3 * 32 + 12  # order, rates of three steps, cursor
    assert parts["images"] == pictures + epoch + 2 * 16 + 32  # counters and statistics
    frozen = footprint(replace(workload, strategy=freeze.STRATEGIES["FC"]), "cpu").parts
    assert frozen["parameters"] == parts["parameters"]
    trained = sum(
        4 * parameter.data.size
        for name, parameter in model.parameters().items()
        if name.startswith("fc")
    )
    assert frozen["moments"] == trained + 32
    assert frozen["steps"] < 0.1 * parts["steps"]
    assert frozen["frozen layers"] > 0 == parts["frozen layers"]


def test_kernels_take_scratch_memory_on_a_device():
    """To sum what is then clipped; updates sum slices in the arena."""
    clipped = msgspec.structs.replace(RECIPE, clip_norm=1.0)
    workload = Workload("tiny-bn", freeze.STRATEGIES["BL"], clipped, 37)
    on_cpu, on_device = (footprint(workload, device) for device in ("cpu", "emulated"))
    scratch = on_device.peak - on_cpu.peak
    assert scratch == on_device.parts["kernels' scratch"]
    # 512 blocks of 128 x 128 sums of a convolution, and those of batch normalisation.
    assert 4 * 512 * 128 * 128 < scratch < 4 * 512 * 128 * 128 + 2**20
    fused = footprint(replace(workload, recipe=RECIPE), "emulated")
    assert 0 < fused.parts["kernels' scratch"] < 2**20
    assert fused.peak < on_device.peak


# -- what does not fit ----------------------------------------------------------------------------


def test_the_largest_batch_is_the_largest():
    recipe = msgspec.structs.replace(RECIPE, batch_size=500)
    workload = Workload("tiny", freeze.STRATEGIES["BL"], recipe, 400, (9,), 9)

    def peak(size):
        changed = msgspec.structs.replace(recipe, batch_size=size)
        return footprint(replace(workload, recipe=changed), "cpu").peak

    free = (peak(20) + peak(200)) // 2
    found = largest_batch(workload, free, "cpu")
    assert 20 < found < 200
    assert peak(found) <= free < peak(found + 1)
    assert largest_batch(workload, peak(1) - 1, "cpu") == 0
    assert largest_batch(workload, 1 << 40, "cpu") == 400, "no step has more images than there are"


class Small(ReferenceBackend):
    """A backend with little memory."""

    def __init__(self, free):
        super().__init__("float32")
        self.free = free

    def free_memory(self):
        return self.free


def test_a_batch_that_does_not_fit_is_refused_in_one_line():
    recipe = msgspec.structs.replace(RECIPE, batch_size=300)
    workload = Workload("tiny", freeze.STRATEGIES["BL"], recipe, 400)
    backend = Small(8 << 20)
    with pytest.raises(FercoreError) as caught:
        memory.refuse_what_does_not_fit([workload], backend)
    found = re.fullmatch(
        r"BL of tiny with batch_size 300 takes [\d.]+ MiB of memory, and reference has 8.0 MiB "
        r"left; the largest batch_size that fits is (\d+)",
        str(caught.value),
    )
    fitting = msgspec.structs.replace(recipe, batch_size=int(found[1]))
    memory.refuse_what_does_not_fit([Workload("tiny", workload.strategy, fitting, 400)], backend)
    with pytest.raises(FercoreError, match="not even 1 fits"):
        memory.refuse_what_does_not_fit([workload], Small(1 << 20))


def test_where_nothing_is_known_nothing_is_refused():
    recipe = msgspec.structs.replace(RECIPE, batch_size=10**9)
    workload = Workload("tiny", freeze.STRATEGIES["BL"], recipe, 10**9)
    memory.refuse_what_does_not_fit([workload], Small(None))


@pytest.mark.parametrize(
    ("size", "text"), [(3 << 29, "1.50 GiB"), (300 << 20, "300.0 MiB"), (1 << 18, "0.2 MiB")]
)
def test_sizes_for_people(size, text):
    assert memory.gib(size) == text
